"""What each fit cost, and how far it came."""

from __future__ import annotations

import pandas as pd

from neuropipe.results import RunResults

COLUMNS = (
    "fold",
    "estimator",
    "seconds",
    "epochs",
    "best_epoch",
    "converged",
    "first_objective",
    "last_objective",
    "best_validation",
    "objective_units",
    "n_weights",
    "tokens_per_second",
)


def table(results: RunResults) -> pd.DataFrame:
    """Cost of every fit that was trained step by step: seconds of training on this machine, epochs
    and the one whose weights were kept, whether the loss had stopped falling, the loss of the first
    and of the last epoch, the best loss on the part of the training data that chose the epoch,
    the number of weights, and tokens (spikes, and an end for each window) learned from a second.

    Parameters
    ----------
    results : RunResults
        `history` with ``objective (step)``; attrs ``seconds``, ``best_step``, ``converged`` and,
        where fits go over tokens, ``tokens_per_epoch``.
    """
    rows = []
    for (estimator, fold), history in sorted(results.history.items(), key=lambda item: item[0][1]):
        objective = history.get("objective")
        if objective is None or "seconds" not in history.attrs or objective.dims != ("step",):
            continue
        parameters = results.parameters.get((estimator, fold))
        n_weights = float("nan")
        if parameters is not None:
            n_weights = parameters.attrs.get("n_parameters", n_weights)
            if "n_weights" in parameters:
                n_weights = float(parameters["n_weights"])
        judged = history["validation"].values.min() if "validation" in history else float("nan")
        n_tokens = history.attrs.get("tokens_per_epoch", float("nan")) * objective.sizes["step"]
        seconds = float(history.attrs["seconds"])
        rows.append(
            {
                "fold": fold,
                "estimator": estimator,
                "seconds": seconds,
                "epochs": objective.sizes["step"],
                "best_epoch": int(history.attrs.get("best_step", objective.sizes["step"] - 1)) + 1,
                "converged": bool(history.attrs.get("converged", 0)),
                "first_objective": float(objective.values[0]),
                "last_objective": float(objective.values[-1]),
                "best_validation": float(judged),
                "objective_units": str(objective.attrs.get("units", "1")),
                "n_weights": n_weights,
                "tokens_per_second": n_tokens / seconds if seconds > 0 else float("nan"),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
