"""Spikes: brain states and who drives whom in each, on a session whose truth is known.

Usage: python spikes_states.py OUT, a folder for the figures. Seconds on one core. With a recording
of your own, replace `simulate` by `npp.read_nwb("my.nwb")` or `npp.open_recording("my.zarr")`.
"""

import sys
from pathlib import Path

import neuropipe as npp


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    # load
    recording, truth = npp.simulate(
        "hmm_glm", seed=1, n_states=2, n_units=8, n_bins=500, n_sequences=8
    )
    # preprocess
    recording = npp.apply_steps(
        recording, [{"step": "bin_spikes", "bin_width_s": 0.02, "start_s": 0.0}]
    )
    # fit, beside a GLM without states, on trials that each fold holds out
    results = npp.cross_validate(
        "hmm_glm",
        recording,
        seed=1,
        split={"by": "trial", "folds": 2},
        parameters={"n_states": 2, "link": "sigmoid", "share_bias": True, "n_restarts": 2},
        baselines=["homogeneous_rate", "poisson_glm"],
        truth={recording.attrs["session"]: truth},
    )
    # look
    for name in ("state_timeline", "interaction_matrices", "score_comparison"):
        npp.plot(results, name).savefig(out / f"{name}.svg")
    scores = npp.tabulate(results, "scores")
    recovery = npp.tabulate(results, "recovery")
    print(scores[["metric", "estimator", "mean", "model_minus_estimator"]].to_string(index=False))
    print(recovery[["state_accuracy", "weight_correlation"]].to_string(index=False))
    return scores, recovery


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "spikes_states"))
