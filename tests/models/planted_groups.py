"""Planted groups of neurons as recordings, and how well a fit finds them."""

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from neuropipe.models.ntf_connectome.simulate import Plan, simulate


def animals(seed: int, **plan) -> tuple[list[xr.DataTree], xr.Dataset]:
    """Draw all animals of one world, complete unless said otherwise."""
    plan = {"missing": 0.0, **plan}
    n = plan.get("n_animals", 6)
    drawn = [simulate(Plan(animal=w + 1, **plan), seed) for w in range(n)]
    return [recording for recording, _ in drawn], drawn[0][1]


def area(value: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve."""
    rank = np.argsort(np.argsort(value))
    return (rank[positive].mean() - (positive.sum() - 1) / 2) / (~positive).sum()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of every row of a with every row of b."""
    lengths = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    return a @ b.T / np.maximum(lengths, 1e-300)


def found(
    truth: xr.Dataset, pattern: np.ndarray, activation: np.ndarray, loading: np.ndarray
) -> dict[str, float]:
    """Compare factors (component, pair), (component, time), (component, animal) with the truth."""
    member = truth["member"].values
    i, j = np.triu_indices(member.shape[1], 1)
    pairs = member[:, i] & member[:, j]
    active, part = truth["active"].values, truth["taking_part"].values
    alike = cosines(pairs.astype(float), pattern) * cosines(active.astype(float), activation)
    match = list(zip(*linear_sum_assignment(-alike), strict=True))
    some = [(g, k) for g, k in match if 0 < part[g].sum() < part.shape[1]]
    return {
        "pair": float(np.mean([area(pattern[k], pairs[g]) for g, k in match])),
        "time": float(np.mean([activation[k] @ active[g] / activation[k].sum() for g, k in match])),
        "animal": float(np.mean([area(loading[k], part[g]) for g, k in some])),
    }


def found_by(parameters: xr.Dataset, truth: xr.Dataset) -> dict[str, float]:
    """Compare a fit's parameters with the truth."""
    i, j = np.triu_indices(truth.sizes["unit"], 1)
    # a fit's animals are in the order of their names, subject/session
    truth = truth.sel(animal=[name.split("/")[0] for name in parameters["animal"].values])
    out = found(
        truth, np.nan_to_num(parameters["affinity"].values[:, i, j]),
        parameters["activation"].values.T, parameters["animal_loading"].values.T,
    )  # fmt: skip
    best = int(np.argmin(parameters["restart_error"].values))
    out["similarity"] = float(np.delete(parameters["restart_similarity"].values, best).mean())
    return out
