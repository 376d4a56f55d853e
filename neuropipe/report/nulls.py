"""What chance alone would reach, in plain words, from the tables of a run."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from neuropipe.report.study import RunReport
from neuropipe.report.words import number, spoken


def nulls(run: RunReport) -> list[str]:
    """Return a sentence for each comparison with chance that the run's tables hold."""
    frames = {table.name: table.frame for table in run.tables if len(table.frame)}
    return [said for name, tell in TOLD.items() if name in frames for said in tell(frames[name])]


def largest_p(values: pd.Series) -> str:
    """Return p-values as one: the largest, for it is what all of them keep to."""
    largest = float(values.max())
    return f"p {number(largest)}" if len(values) == 1 else f"p at most {number(largest)}"


def _shifted(frame: pd.DataFrame) -> list[str]:
    """Traces against traces shifted in time, each neuron by its own lag."""
    own = frame[frame["traces"] == "recorded"]
    shifted = frame[frame["traces"] != "recorded"]
    p_values = own["p_value"].dropna()
    if not len(shifted) or not len(p_values):
        return []
    n = int(shifted.groupby("fold")["traces"].nunique().max())
    recorded = own.groupby("fold")["explained_variance"].first()
    most = shifted.groupby("fold")["explained_variance"].max()
    above = int((recorded > most.reindex(recorded.index)).sum())
    return [
        f"Of training data that were recorded, the fit explains {_listed(recorded)} of the "
        f"variance, of the same traces shifted against each other {_listed(most)} at most: more "
        f"than all shifts in {above} of {len(recorded)} folds ({largest_p(p_values)}; {n} shifts "
        f"can show no less than {number(1 / (n + 1))})."
    ]


def _listed(values: pd.Series) -> str:
    """Return a value for each fold."""
    return ", ".join(number(float(value)) for value in values)


def _decoded(frame: pd.DataFrame) -> list[str]:
    """Decoded behaviour against behaviour shifted in time."""
    out = []
    for name, rows in frame.groupby("estimator", sort=False):
        out.append(
            f"{spoken(str(name))} decoded behaviour with r {number(float(rows['r'].mean()))}; 5% "
            f"of circular shifts reach {number(float(rows['r_by_chance'].mean()))} "
            f"({largest_p(rows['p_value'])})."
        )
    return out


def _classes(frame: pd.DataFrame) -> list[str]:
    """Decoded classes against the most frequent one."""
    rows = frame[frame["fold"].astype(str) == "all"]
    rows = rows if len(rows) else frame
    accuracy, chance = float(rows["accuracy"].mean()), float(rows["chance"].mean())
    return [
        f"Guessing the most frequent class would be right in {number(100 * chance)}% of trials, "
        f"the model was in {number(100 * accuracy)}% ({largest_p(rows['p_value'])})."
    ]


def _identified(frame: pd.DataFrame) -> list[str]:
    """Identified images against a draw from the pool."""
    out = []
    for metric, rows in frame.groupby("metric", sort=False):
        above = int((rows["ci_low"] > rows["chance"]).sum())
        chance = number(float(rows["chance"].mean()))
        out.append(
            f"{spoken(str(metric)).capitalize()}: by chance {chance}; "
            f"the whole interval is above it in {above} of {len(rows)} "
            f"subject{'' if len(rows) == 1 else 's'}."
        )
    return out


TOLD: dict[str, Callable[[pd.DataFrame], list[str]]] = {
    "null_test": _shifted,
    "behavior_decoding": _decoded,
    "class_decoding": _classes,
    "identification": _identified,
}
