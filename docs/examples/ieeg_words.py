"""Intracranial voltages: spoken words told apart, on a session whose truth is known.

Usage: python ieeg_words.py OUT, a folder for the figures. Seconds on one core, so the network is
far too small and hardly trained: docs/tutorials/du_in.md has settings that decode.
"""

import sys
from pathlib import Path

import neuropipe as npp

TINY = {"epochs": 2, "batch_size": 16, "learning_rate": 0.002}


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    # load
    recording, _ = npp.simulate(
        "du_in",
        seed=1,
        n_words=2,
        n_repetitions=10,
        n_runs=2,
        n_channels=8,
        n_shafts=2,
        n_speech=4,
        sampling_rate_hz=500,
    )
    # preprocess: mains out, neighbours subtracted, one stretch of time around each word
    recording = npp.apply_steps(
        recording,
        [
            {"step": "select_channels", "drop_bad": True},
            {"step": "filter_signal", "low_hz": 0.5, "high_hz": 100, "notch_hz": [50]},
            {"step": "rereference", "scheme": "bipolar"},
            {"step": "cut_trials", "table": "events", "before_s": 0.2, "after_s": 1.2},
        ],
    )
    results = npp.cross_validate(
        "du_in",
        recording,
        seed=1,
        split={"by": "run", "folds": 2},
        parameters={
            "n_channels": 4,
            "window_s": 1.4,
            "n_layers": 1,
            "n_heads": 2,
            "head_dim": 8,
            "n_inner": 32,
            "filters": [16, 16, 8],
            "n_codes": 16,
            "code_dim": 8,
            "decoder_layers": 1,
            "decoder_filters": 16,
            "warm_epochs": 1,
            "units": TINY,
            "masked": TINY,
            "decode": TINY,
            "n_exchanges": 0,
        },
        baselines=["band_power_lda"],
    )
    for name in ("class_confusion", "score_comparison"):
        npp.plot(results, name).savefig(out / f"{name}.svg")
    scores = npp.tabulate(results, "scores")
    print(scores[["metric", "estimator", "mean", "model_minus_estimator"]].to_string(index=False))
    return scores


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "ieeg_words"))
