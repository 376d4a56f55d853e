"""Identification and retrieval by subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from neuropipe.identified import METRICS, Held, by_subject, chance, each, held_out, pool_size
from neuropipe.results import RunResults
from neuropipe.runtime import generator

N_DRAWS = 400
N_SHUFFLES = 199
COLUMNS = (
    "subject",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "chance",
    "shuffled",
    "p_value",
    "best_baseline",
    "baseline_value",
    "n_stimuli",
    "pool_size",
    "folds",
)


def table(results: RunResults) -> pd.DataFrame:
    """Identification and retrieval of held-out images by subject: the model's value, mean over
    folds, with its 95% percentile bootstrap interval over held-out stimuli; chance; the mean after
    the held-out brains were dealt out anew to what they were shown, and p, the share of such draws
    that reach the value (one more in both counts; uncorrected over rows); and the baseline with
    the highest mean on the same sessions and folds. Two-way identification compares with one other
    image at a time, retrieval with a pool of the stated size, from brain to image and from image
    to brain.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``predicted_image``, `recordings` with the embeddings, `scores`.
    """
    pool = pool_size(results)
    rows = []
    for subject, own in by_subject(held_out(results)).items():
        for name in METRICS:
            parts = [each(h, name, pool) for h in own]
            if not all(np.isfinite(part).all() for part in parts):
                continue
            low, high = _interval(parts, name, results.seed)
            dealt = _shuffled(own, name, pool, results.seed)
            value = float(np.mean([part.mean() for part in parts]))
            mine = results.scores[
                results.scores["session"].isin({h.session for h in own})
                & (results.scores["metric"] == name)
                & (results.scores["estimator"] != results.model)
            ]
            means = mine.groupby("estimator")["value"].mean().astype(float)
            best = means.idxmax() if len(means) else None
            rows.append(
                {
                    "subject": subject, "metric": name,
                    "value": value, "ci_low": low, "ci_high": high, "chance": chance(name, pool),
                    "shuffled": float(dealt.mean()),
                    "p_value": float((1 + (dealt >= value).sum()) / (1 + len(dealt))),
                    "best_baseline": best or "",
                    "baseline_value": float(means[best]) if best else np.nan,
                    "n_stimuli": sum(len(set(h.label)) for h in own), "pool_size": pool,
                    "folds": len({h.fold for h in own}),
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _shuffled(held: Sequence[Held], name: str, pool: int, seed: int) -> np.ndarray:
    """Return the mean over folds with the held-out brains in another order, (draw,)."""
    rng = generator(seed, f"shuffled-{name}")
    orders = [[rng.permutation(len(h.label)) for h in held] for _ in range(N_SHUFFLES)]
    return np.array(
        [
            np.mean(
                [
                    each(replace(h, similarity=h.similarity[order]), name, pool).mean()
                    for h, order in zip(held, draw, strict=True)
                ]
            )
            for draw in orders
        ]
    )


def _interval(parts: list[np.ndarray], name: str, seed: int) -> tuple[float, float]:
    """Return the interval over draws of stimuli in each fold; the rivals stay the same."""
    rng = generator(seed, f"identification-{name}")
    draws = [
        np.mean([rng.choice(part, len(part)).mean() for part in parts]) for _ in range(N_DRAWS)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
