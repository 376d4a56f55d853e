"""Identification and retrieval by subject."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.identified import METRICS, by_subject, chance, each, held_out, pool_size
from neuropipe.results import RunResults
from neuropipe.runtime import generator

N_DRAWS = 400
COLUMNS = (
    "subject",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "chance",
    "best_baseline",
    "baseline_value",
    "n_stimuli",
    "pool_size",
    "folds",
)


def table(results: RunResults) -> pd.DataFrame:
    """Identification and retrieval of held-out images by subject: the model's value, mean over
    folds, with its 95% percentile bootstrap interval over held-out stimuli; chance; and the
    baseline with the highest mean on the same sessions and folds. Two-way identification compares
    with one other image at a time, retrieval with a pool of the stated size, from brain to image
    and from image to brain.

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
                    "value": float(np.mean([part.mean() for part in parts])),
                    "ci_low": low, "ci_high": high, "chance": chance(name, pool),
                    "best_baseline": best or "",
                    "baseline_value": float(means[best]) if best else np.nan,
                    "n_stimuli": sum(len(set(h.label)) for h in own), "pool_size": pool,
                    "folds": len({h.fold for h in own}),
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _interval(parts: list[np.ndarray], name: str, seed: int) -> tuple[float, float]:
    """Return the interval over draws of stimuli in each fold; the rivals stay the same."""
    rng = generator(seed, f"identification-{name}")
    draws = [
        np.mean([rng.choice(part, len(part)).mean() for part in parts]) for _ in range(N_DRAWS)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
