"""Calcium: groups of neurons with windows of their own, in three animals whose truth is known.

Usage: python calcium_groups.py OUT, a folder for the figures. Seconds on one core.
"""

import sys
from pathlib import Path

import neuropipe as npp


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    # load: one session an animal; groups depend on the seed alone, so they agree over animals
    recordings, truth = [], {}
    for animal in (1, 2, 3):
        recording, planted = npp.simulate(
            "ntf_connectome", seed=1, animal=animal, n_animals=3, n_units=24, n_groups=2, overlap=2
        )
        recording.attrs["session"] = f"animal-{animal}"
        recordings.append(recording)
        truth[f"animal-{animal}"] = planted
    # preprocess: slow drift out; raw fluorescence would need step delta_f first
    steps = [{"step": "detrend_signal", "node": "calcium/cells"}]
    recordings = [npp.apply_steps(recording, steps) for recording in recordings]
    results = npp.cross_validate(
        "ntf_connectome",
        recordings,
        seed=1,
        split={"by": "block", "folds": 2, "buffer_s": 0.5, "blocks_per_fold": 3, "window_s": 5},
        parameters={"rank": 4, "n_restarts": 2, "communities": "modularity"},
        baselines=["plain_cp", "static_correlation"],
        truth=truth,
    )
    for name in ("component_activations", "community_matrices", "score_comparison"):
        npp.plot(results, name).savefig(out / f"{name}.svg")
    scores = npp.tabulate(results, "scores")
    recovery = npp.tabulate(results, "group_recovery")
    print(scores[["metric", "estimator", "mean", "model_minus_estimator"]].to_string(index=False))
    print(recovery[["group", "pair_auc"]].to_string(index=False))
    return scores, recovery


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "calcium_groups"))
