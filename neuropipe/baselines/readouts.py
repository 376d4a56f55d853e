"""Read-outs fitted on training bins: ridge for signals, Poisson regression for counts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor

WEIGHT_SDS = (1.0, 0.3, 0.1, 0.03)  # of Poisson weights, for inputs of sd 1
MOST_JUDGED = 24  # units that a weight's sd is chosen by
PENALTIES = tuple(10.0 ** np.arange(-4, 3))  # of ridge, a bin, for inputs of sd 1
LOWEST = 0.1  # of a unit's mean, that a linear prediction of counts is raised to
FOLDS = 3


@dataclass(frozen=True)
class Readout:
    """Targets predicted from inputs, linearly or through an exponential.

    Attributes
    ----------
    weight : (target, input)
        For inputs scaled by `mean` and `sd`.
    offset : (target,)
    mean, sd : (input,)
        Of the training inputs.
    low, high : (target,)
        Predictions stay between them; infinite where nothing bounds them.
    exponential : bool
        Whether the prediction is the exponential of the linear one.
    """

    weight: np.ndarray
    offset: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    exponential: bool

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return predictions (bin, target) from inputs (bin, input)."""
        value = (x - self.mean) / self.sd @ self.weight.T + self.offset
        if self.exponential:
            value = np.exp(np.minimum(value, 50.0))
        return np.clip(value, self.low, self.high)

    def by_input(self) -> np.ndarray:
        """Return the change of each target, or of its logarithm, by each input as it is."""
        return np.asarray(self.weight / self.sd)


def linear_readout(
    x: np.ndarray, y: np.ndarray, fold: np.ndarray, *, counts: bool = False
) -> Readout:
    """Fit a ridge regression whose penalty is chosen on bins left out in turn.

    Parameters
    ----------
    x : (bin, input)
    y : (bin, target)
        NaN are left out.
    fold : (bin,), integer
        Bins of one number are left out together.
    counts : bool
        Targets are counts: predictions are raised to a tenth of the training mean.

    Notes
    -----
    One penalty serves all targets; it minimises their summed error over variance.
    """
    mean, sd = x.mean(0), _scale(x)
    z = (x - mean) / sd
    weight, offset = ridge(z, y, PENALTIES[int(np.argmin(ridge_errors(x, y, fold)))])
    low = LOWEST * np.nanmean(y, 0) if counts else np.full(y.shape[1], -np.inf)
    return Readout(weight, offset, mean, sd, low, np.full(y.shape[1], np.inf), False)


def ridge_errors(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return the left-out squared error of each penalty, over the targets' variance, summed.

    Parameters
    ----------
    x : (bin, input)
    y : (bin, target)
        NaN are left out.
    fold : (bin,), integer
        Bins of one number are left out together.
    """
    z = (x - x.mean(0)) / _scale(x)
    seen = np.isfinite(y)
    variance = np.where(seen, y - np.nanmean(y, 0), 0.0).var(0)
    variance = np.where(variance > 0, variance, 1.0)
    error = np.zeros(len(PENALTIES))
    for f in np.unique(fold) if len(np.unique(fold)) > 1 else ():
        fit, judge = fold != f, fold == f
        if not seen[fit].any(0).all():
            continue
        for k, penalty in enumerate(PENALTIES):
            weight, offset = ridge(z[fit], y[fit], penalty)
            gap = np.where(seen[judge], y[judge] - z[judge] @ weight.T - offset, 0.0)
            error[k] += float((gap**2 / variance).sum())
    return error


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (target, input) and offsets of a ridge regression.

    Minimises the mean squared error plus `penalty` times the squared weights, offset free; a
    target is fitted on the bins where it is not NaN.
    """
    whole = np.isfinite(y).all(1)
    groups = [np.arange(y.shape[1])] if whole.all() else [[k] for k in range(y.shape[1])]
    weight, offset = np.zeros((y.shape[1], x.shape[1])), np.zeros(y.shape[1])
    for at in groups:
        rows = np.isfinite(y[:, at]).all(1)
        if not rows.any():
            continue
        centre, level = x[rows].mean(0), y[rows][:, at].mean(0)
        z = x[rows] - centre
        gram = z.T @ z + penalty * rows.sum() * np.eye(x.shape[1])
        weight[at] = np.linalg.solve(gram, z.T @ (y[rows][:, at] - level)).T
        offset[at] = level - weight[at] @ centre
    return weight, offset


def poisson_readout(x: np.ndarray, counts: np.ndarray, weight_sd: float) -> Readout:
    """Fit a Poisson regression a unit, log link, by scikit-learn's PoissonRegressor.

    Parameters
    ----------
    x : (bin, input)
    counts : (bin, unit)
        Bins with a NaN are left out.
    weight_sd : float
        Of a Gaussian prior on weights of inputs scaled to sd 1.

    Notes
    -----
    Rates stay below the largest training count plus one, so that an input far from the training
    data does not decide a score.
    """
    mean, sd = x.mean(0), _scale(x)
    seen = np.isfinite(counts).all(1)
    z, y = ((x - mean) / sd)[seen], counts[seen]
    weight, offset = np.zeros((y.shape[1], x.shape[1])), np.log(np.maximum(y.mean(0), 1e-9))
    alpha = 1 / (len(y) * weight_sd**2)
    for unit in range(y.shape[1]) if x.shape[1] else ():
        if y[:, unit].any():
            model = PoissonRegressor(alpha=alpha, solver="newton-cholesky", max_iter=200, tol=1e-5)
            with warnings.catch_warnings():  # of a step that it then takes by lbfgs
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(z, y[:, unit])
            weight[unit], offset[unit] = model.coef_, model.intercept_
    low = np.zeros(y.shape[1])
    return Readout(weight, offset, mean, sd, low, y.max(0) + 1, True)


def best_weight_sd(x: np.ndarray, counts: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """Choose the prior of `poisson_readout` by bins left out in turn.

    Parameters
    ----------
    x : (bin, input)
    counts : (bin, unit)
        An even part of at most 24 units is looked at.
    fold : (bin,), integer
        Bins of one number are left out together.

    Returns
    -------
    weight_sd : float
    log_likelihood : float, nats
        Of the left-out bins, without the factorials.
    """
    y = counts[:, :: -(-counts.shape[1] // MOST_JUDGED)]
    seen = np.isfinite(y).all(1)
    value = np.zeros(len(WEIGHT_SDS))
    for f in np.unique(fold):
        fit, judge = seen & (fold != f), seen & (fold == f)
        if not fit.any() or not judge.any():
            continue
        for k, weight_sd in enumerate(WEIGHT_SDS):
            rate = np.maximum(poisson_readout(x[fit], y[fit], weight_sd)(x[judge]), 1e-9)
            value[k] += float((y[judge] * np.log(rate) - rate).sum())
    best = int(np.argmax(value))
    return WEIGHT_SDS[best], float(value[best])


def _scale(x: np.ndarray) -> np.ndarray:
    sd = x.std(0)
    return np.where(sd > 1e-9 * np.maximum(np.abs(x.mean(0)), 1e-30), sd, 1.0)


def smooth(block: np.ndarray, sd_bins: float) -> np.ndarray:
    """Filter one window (bin, unit) by a Gaussian, missing bins and the ends left out of averages.

    Returns
    -------
    (bin, unit)
        NaN only where nothing is seen within four sd.
    """
    seen = np.isfinite(block)
    if sd_bins == 0:
        return block
    weight = gaussian_filter1d(seen.astype(float), sd_bins, axis=0, mode="constant")
    total = gaussian_filter1d(np.where(seen, block, 0.0), sd_bins, axis=0, mode="constant")
    return np.where(weight > 1e-6, total / np.maximum(weight, 1e-6), np.nan)


def cut_in_folds(lengths: Sequence[int], n_folds: int = FOLDS) -> list[list[tuple[int, slice]]]:
    """Return the consecutive pieces of windows that each fold leaves out.

    Returns
    -------
    list of list of (window, slice)
        Folds of nearly equal numbers of bins, in order of time; a window may be cut between two.
    """
    edges = np.linspace(0, sum(lengths), n_folds + 1).round().astype(int)
    out: list[list[tuple[int, slice]]] = [[] for _ in range(n_folds)]
    first = 0
    for window, length in enumerate(lengths):
        for f in range(n_folds):
            start, stop = max(edges[f] - first, 0), min(edges[f + 1] - first, length)
            if stop > start:
                out[f].append((window, slice(int(start), int(stop))))
        first += length
    return out


def fold_of_bins(lengths: Sequence[int], n_folds: int = FOLDS) -> np.ndarray:
    """Return the fold of each bin of windows laid end to end, as of `cut_in_folds`."""
    total = sum(lengths)
    return np.minimum(np.arange(total) * n_folds // max(total, 1), n_folds - 1)
