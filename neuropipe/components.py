"""Components of a factorisation: their patterns, which is which in another fit and in the truth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import rankdata

from neuropipe.metrics import congruence
from neuropipe.results import RunResults

MOST_MATCHED = 1000


def component_fits(results: RunResults) -> dict[int, xr.Dataset]:
    """Return the model's parameters by fold, in order, where they have components."""
    return {
        fold: parameters
        for fold in results.folds
        if (parameters := results.parameters.get((results.model, fold))) is not None
        and {"membership", "activation", "animal_loading"} <= set(parameters.data_vars)
    }


def pattern(parameters: xr.Dataset, component: int, at: np.ndarray | None = None) -> np.ndarray:
    """Return a component's affinities between some units, NaN where a pair was never seen.

    Parameters
    ----------
    parameters : Dataset
        ``affinity (component, unit, source_unit)`` or ``pair_affinity (pair, component)``.
    component : int
    at : (chosen,), integer, optional
        Positions of units; by default all.

    Returns
    -------
    (chosen, chosen)
        Zero on the diagonal.
    """
    n = parameters.sizes["unit"]
    at = np.arange(n) if at is None else np.asarray(at)
    if "affinity" in parameters:
        matrix = parameters["affinity"].isel(component=component)
        out = matrix.transpose("unit", "source_unit").values[np.ix_(at, at)].astype(float)
    else:
        low, high = np.minimum.outer(at, at), np.maximum.outer(at, at)
        place = low * (2 * n - low - 1) // 2 + high - low - 1  # rows of the upper triangle
        np.fill_diagonal(place, 0)
        out = parameters["pair_affinity"].isel(component=component).values[place].astype(float)
    np.fill_diagonal(out, 0.0)
    return out


def pair_values(parameters: xr.Dataset, units: np.ndarray) -> np.ndarray:
    """Return patterns (pair, component) of the pairs of named units, NaN where never seen."""
    names = {str(u): k for k, u in enumerate(parameters["unit"].values)}
    at = np.array([names[str(u)] for u in units], dtype=int)
    i, j = np.triu_indices(len(at), 1)
    values = [pattern(parameters, k, at)[i, j] for k in range(parameters.sizes["component"])]
    return np.stack(values, axis=1)


def matched(first: xr.Dataset, other: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Match the components of another fit by their patterns over the units that both have.

    Of more than 1,000 units an even part is compared, which settles which is which as well.

    Returns
    -------
    similarity : (component of `first`,)
        Cosine of the patterns, 0 for a component without a partner.
    match : (component of `first`,), integer
        Component of `other`, -1 for none.
    """
    known = {str(u) for u in other["unit"].values}
    units = np.array([u for u in first["unit"].values if str(u) in known], dtype=object)
    units = units[:: max(-(-len(units) // MOST_MATCHED), 1)]
    if len(units) < 2:
        n = first.sizes["component"]
        return np.zeros(n), np.full(n, -1)
    a, b = pair_values(first, units), pair_values(other, units)
    both = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    return congruence([a[both]], [b[both]])


def planted_active(parameters: xr.Dataset, truth: xr.Dataset) -> np.ndarray:
    """Return whether each planted group was active at the fitted windows, (group, window)."""
    at = np.interp(
        parameters["time"].values, truth["time"].values, np.arange(truth.sizes["window"])
    )
    active = truth["active"].transpose("group", "window").values
    return active[:, np.rint(at).astype(int)].astype(bool)


def planted_pairs(truth: xr.Dataset, units: np.ndarray) -> np.ndarray:
    """Return whether both units of a pair belong to each planted group, (group, pair)."""
    member = truth["member"].transpose("group", "unit").sel(unit=units).values.astype(bool)
    i, j = np.triu_indices(len(units), 1)
    return member[:, i] & member[:, j]


def planted_part(parameters: xr.Dataset, truth: xr.Dataset) -> np.ndarray:
    """Return whether each fitted animal had each planted group, (group, animal)."""
    names = [str(key).split("/")[0] for key in parameters["animal"].values]
    return truth["taking_part"].sel(animal=names).transpose("group", "animal").values.astype(bool)


def planted_components(parameters: xr.Dataset, truth: xr.Dataset) -> np.ndarray:
    """Return the component that fits each planted group best, one to one, -1 for none.

    Matched by the cosine of the patterns times that of the activations, so a group that the
    fitted windows never show has none.
    """
    units = parameters["unit"].values
    pairs = planted_pairs(truth, units).astype(float).T
    active = planted_active(parameters, truth).astype(float).T
    activation = parameters["activation"].transpose("window", "component").values
    values = np.nan_to_num(pair_values(parameters, units))
    similarity, match = congruence([pairs, active], [values, activation])
    return np.where(similarity > 0, match, -1)


def truth_of(results: RunResults, parameters: xr.Dataset) -> xr.Dataset | None:
    """Return the planted groups of a run, where every fitted unit and animal is in them."""
    names = [str(key).split("/")[0] for key in parameters["animal"].values]
    for truth in results.truth.values():
        if {"member", "active", "taking_part"} <= set(truth.data_vars):
            units = np.isin(parameters["unit"].values.astype(str), truth["unit"].values.astype(str))
            animals = np.isin(names, truth["animal"].values.astype(str))
            return truth if units.all() and animals.all() else None
    return None


def area_under_curve(value: np.ndarray, positive: np.ndarray) -> float:
    """Return the chance that a positive has a larger value than a negative; ties count half."""
    n = int(positive.sum())
    if n in (0, len(positive)):
        return float("nan")
    rank = rankdata(value)[positive].mean() - (n + 1) / 2
    return float(rank / (len(positive) - n))
