"""What a MindBridge holds and what it took."""

from __future__ import annotations

import pandas as pd

from neuropipe.results import RunResults

COLUMNS = ("fold", "subject", "voxels", "training_trials", "training_stimuli", "start", "epochs",
           "parameters_total", "training_seconds")  # fmt: skip


def table(results: RunResults) -> pd.DataFrame:
    """What was learned from whom, by fold and subject: voxels, training trials and different
    stimuli; the closed form that the subject's part started from and the epochs of training that
    held-out stimuli of the training data asked for, 0 where the start was best; how many numbers
    the whole network learns, and the seconds of the training that chose the epochs.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``n_voxels (subject)`` and more, `history`.
    """
    rows = []
    for (estimator, fold), p in sorted(results.parameters.items()):
        if estimator != results.model or "parameter_count" not in p:
            continue
        seconds = results.history[estimator, fold].attrs.get("seconds", float("nan"))
        for n, subject in enumerate(p["subject"].values):
            rows.append(
                (fold, str(subject), int(p["n_voxels"][n]), int(p["n_trials"][n]),
                 int(p["n_stimuli_seen"][n]), str(p["start"].values[n]), int(p["n_epochs"][n]),
                 int(p["parameter_count"].sum()), float(seconds))
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))
