"""What a model recovers of planted truth at the size of a user's recordings, in plain words."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from neuropipe.report.words import number

START = (
    "Sessions were drawn from the model at the size of these recordings and fitted the same way: "
)
END = " Real data do not follow the model exactly, so they can only be harder."


def trust_sentence(model: str, frame: pd.DataFrame) -> str:
    """Return what a table of recovery means for a result of the same size."""
    if model not in TOLD or not len(frame):
        return START + "the table says what was found of the planted truth." + END
    return START + TOLD[model](frame) + END


def _states(frame: pd.DataFrame) -> str:
    accuracy, r = frame["state_accuracy"].mean(), frame["weight_correlation"].mean()
    return (
        f"the right state was found in {number(float(100 * accuracy))}% of held-out bins, and the "
        f"weights correlate with the planted ones by {number(float(r))}."
    )


def _latents(frame: pd.DataFrame) -> str:
    means = frame.groupby("kind", sort=False)["single_r2"].mean()
    told = ", ".join(f"{kind} {number(float(value))}" for kind, value in means.items())
    return f"of the planted latents the fitted ones tell, one to one, R2 {told}."


def _groups(frame: pd.DataFrame) -> str:
    worst, mean = frame["pair_auc"].min(), frame["pair_auc"].mean()
    return (
        f"pairs of a planted group are told from other pairs with an area of {number(float(mean))} "
        f"in mean, {number(float(worst))} for the worst group (one half is chance)."
    )


def _drives(frame: pd.DataFrame) -> str:
    auc = frame.groupby("method", sort=False)["auc"].mean()
    told = ", ".join(f"{number(float(value))} by {method}" for method, value in auc.items())
    return (
        "pairs of units of which one drives the other are told from other pairs with an area of "
        f"{told} (one half is chance)."
    )


def _images(frame: pd.DataFrame) -> str:
    told = frame[frame["metric"] == "two_way_image"]
    parts = [f"{row.subject} {number(float(row.value))}" for row in told.itertuples()]
    return f"two-way identification of held-out images, one half by chance: {', '.join(parts)}."


def _classes(frame: pd.DataFrame) -> str:
    last = frame.iloc[-1]
    return (
        f"{number(100 * float(last['accuracy']))}% of held-out trials were told among "
        f"{int(last['classes'])} planted classes, {number(100 * float(last['chance']))}% by chance."
    )


TOLD: dict[str, Callable[[pd.DataFrame], str]] = {
    "hmm_glm": _states,
    "mm_gpvae": _latents,
    "ntf_connectome": _groups,
    "neuroformer": _drives,
    "mindbridge": _images,
    "du_in": _classes,
}
