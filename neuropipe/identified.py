"""What held-out brains were decoded to, beside what was shown: for figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuropipe.results import RunResults
from neuropipe.retrieval import cosines, retrieval_each, two_way_each

POOL = 50  # where the settings do not say
METRICS = ("two_way_image", "image_retrieval_top1", "brain_retrieval_top1")


@dataclass(frozen=True)
class Held:
    """Held-out stimuli of one session and fold.

    Attributes
    ----------
    subject, session : str
    fold : int
    label : (trial,)
        Stimuli.
    similarity : (trial, trial)
        Cosine of what row n was decoded to with what row m showed, about the mean embedding.
    """

    subject: str
    session: str
    fold: int
    label: np.ndarray
    similarity: np.ndarray


def setting(results: RunResults, name: str, default: Any) -> Any:
    """Return a parameter of the run's model."""
    return results.settings.get("parameters", {}).get(name, default)


def pool_size(results: RunResults) -> int:
    """Return how many stimuli retrieval chooses among."""
    return int(setting(results, "pool_size", POOL))


def held_out(results: RunResults) -> list[Held]:
    """Return what was decoded in every session and fold; none for other models.

    Embeddings are compared about the mean over stimuli that the fold does not hold out.
    """
    node = str(setting(results, "image", "embedding"))
    shown = {
        (session, fold): set(map(str, e["stimulus"].values))
        for (session, fold), e in results.estimates.items()
        if "predicted_image" in e and "stimulus" in e.coords
    }
    tables = {
        session: _embeddings(results, session, node)
        for session in dict.fromkeys(session for session, _ in shown)
    }
    out = []
    for session, fold in sorted(shown, key=lambda key: (key[1], key[0])):
        held = {n for (_, k), names in shown.items() if k == fold for n in names}
        seen = {n: v for table in tables.values() for n, v in table.items() if n not in held}
        mine = {n: tables[session][n] for n in held if n in tables[session]}
        center = np.mean(list((seen or mine).values()), axis=0)
        estimate = results.estimates[session, fold]
        label = estimate["stimulus"].values.astype(str)
        true = np.stack([tables[session][name] for name in label])
        guess = estimate["predicted_image"].values.astype(float)
        subject = str(estimate.attrs.get("subject", "") or session)
        out.append(Held(subject, session, fold, label, cosines(guess - center, true - center)))
    return out


def _embeddings(results: RunResults, session: str, node: str) -> dict[str, np.ndarray]:
    """Return the embeddings of a recording's stimuli, each of length 1."""
    data = results.recordings[session][node].to_dataset()
    value = data["embedding"].values.astype(float)
    value = value / np.maximum(np.linalg.norm(value, axis=1, keepdims=True), 1e-12)
    return dict(zip(data["stimulus"].values.astype(str), value, strict=True))


def chance(metric: str, pool: int) -> float:
    """Return what a decoder scores that knows nothing; NaN for a metric without a fixed one."""
    if metric.startswith("two_way"):
        return 0.5
    name, _, n_best = metric.rpartition("_top")
    return int(n_best) / pool if name.endswith("retrieval") else float("nan")


def each(held: Held, metric: str, pool: int) -> np.ndarray:
    """Return one of `METRICS` for every held-out stimulus or trial, (trial,)."""
    if metric == "two_way_image":
        return two_way_each(held.similarity, held.label)
    table = held.similarity if metric.startswith("image") else held.similarity.T
    return retrieval_each(table, int(metric.rpartition("_top")[2]), pool, held.label)


def by_subject(held: Sequence[Held]) -> dict[str, list[Held]]:
    """Return what was held out of each subject, in the order of their names."""
    names = sorted({h.subject for h in held})
    return {name: [h for h in held if h.subject == name] for name in names}
