"""Designs of single trials: events to regressors, regressors to linear maps of one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import gamma

KERNEL_S = 32.0
# Delay of the peak, of the undershoot after it, width and undershoot's share: ours, spread around
# nilearn's 6, 10, 1, 0.167 (SPM's canonical response), which comes first.
LIBRARY: tuple[tuple[float, float, float, float], ...] = (
    (6.0, 10.0, 1.0, 0.167),
    *(
        (peak, later, width, share)
        for peak in (4.0, 5.0, 6.0, 7.0, 8.0)
        for later, width, share in ((10.0, 0.7, 0.167), (10.0, 1.3, 0.167), (8.0, 1.0, 0.333))
    ),
)
# nilearn's fine grid: where it starts, before the first volume, and its steps a volume.
FIRST_S = -24.0
OVERSAMPLING = 50
# A singular value below this share of the largest is rank that is not there.
RANK = 1e-10


def double_gamma(
    peak_s: float, later_s: float, width: float, share: float
) -> Callable[[float, int], np.ndarray]:
    """Return a response of two gamma densities as nilearn takes it: (tr, oversampling) -> kernel.

    With the library's first shape it is nilearn's spm_hrf; the kernel sums to 1.
    """

    def kernel(t_r: float, oversampling: int = 50) -> np.ndarray:
        dt = t_r / oversampling
        time = np.linspace(0, KERNEL_S, round(KERNEL_S / dt))
        peak = gamma.pdf(time, peak_s / width, loc=dt, scale=width)
        later = gamma.pdf(time, (peak_s + later_s) / width, loc=dt, scale=width)
        response = peak - share * later
        return response / response.sum()

    return kernel


def responses(hrf: str) -> list[Callable[[float, int], np.ndarray]]:
    """Return the responses to try: one of nilearn by name, or those of the library."""
    if hrf == "library":
        return [double_gamma(*shape) for shape in LIBRARY]
    from nilearn.glm.first_level import glover_hrf, spm_hrf

    return [{"spm": spm_hrf, "glover": glover_hrf}[hrf]]


def trial_regressors(
    onset_s: np.ndarray,
    duration_s: np.ndarray,
    frame_s: np.ndarray,
    response: Callable[[float, int], np.ndarray],
) -> np.ndarray:
    """Return one regressor a trial, (time, trial); a trial long before the first volume has none.

    Times are seconds from the first volume. The numbers are those of nilearn's compute_regressor,
    which convolves on a fine grid; a boxcar's convolution is a difference of two running sums of
    the response, so a trial costs a look-up instead.
    """
    n = len(frame_s)
    tr_s = np.diff(frame_s).min()
    stop = frame_s[-1] * (1 + 1 / (n - 1))
    span = frame_s[-1] - frame_s[0]
    n_fine = round((n - 1) / span * (stop - frame_s[0] - FIRST_S) * OVERSAMPLING + 1)
    fine = np.linspace(frame_s[0] + FIRST_S, stop, n_fine)
    first = np.minimum(np.searchsorted(fine, onset_s), n_fine - 1)
    last = np.minimum(np.searchsorted(fine, onset_s + duration_s), n_fine - 1)
    last = last + ((last == first) & (last < n_fine - 1))
    sums = np.append(0.0, np.cumsum(response(tr_s, OVERSAMPLING)))
    low = np.clip(np.searchsorted(fine, frame_s, side="right") - 1, 0, n_fine - 2)
    share = ((frame_s - fine[low]) / (fine[low + 1] - fine[low]))[:, None]

    def at(place: np.ndarray) -> np.ndarray:
        since = np.clip(place[:, None] - first + 1, 0, len(sums) - 1)
        until = np.clip(place[:, None] - last + 1, 0, len(sums) - 1)
        return sums[since] - sums[until]

    out = (1 - share) * at(low) + share * at(low + 1)
    return out * (onset_s >= FIRST_S)


def residual(regressors: np.ndarray, basis: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return regressors without what drift and confounds explain; 0 where a volume is left out."""
    own = regressors * kept[:, None]
    return own - basis @ (basis.T @ own)


def separate_map(regressors: np.ndarray, groups: Sequence[str], extra: np.ndarray) -> np.ndarray:
    """Return the map (trial, time) of least squares separate: one model a trial (LSS).

    Each model has the trial, one regressor for the other trials of each group, and `extra`.

    Source: Mumford et al. 2012, NeuroImage 59:2636; Turner et al. 2012 for one regressor a group.
    """
    labels = np.asarray(groups, dtype=object)
    sums = {name: regressors[:, labels == name].sum(axis=1) for name in dict.fromkeys(groups)}
    out = np.empty(regressors.T.shape)
    for trial, own in enumerate(regressors.T):
        others = []
        for name, total in sums.items():
            rest = total - own if name == labels[trial] else total
            if name != labels[trial] or (labels == name).sum() > 1:
                others.append(rest)
        out[trial] = np.linalg.pinv(np.column_stack([own, *others, extra]))[0]
    return out


def all_map(regressors: np.ndarray, extra: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    """Return the map (trial, time) of one model with a regressor each trial (LSA), or its ridge.

    `alpha` is a share of the mean squared length of the regressors; `extra` is not shrunk.
    """
    left, size, right = decomposed(regressors, extra)
    return (right.T * shrunk(size, alpha, len(right))) @ left.T


def decomposed(
    regressors: np.ndarray, extra: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the singular vectors and values of regressors that `extra` does not explain."""
    if extra.size:
        left, size, _ = np.linalg.svd(extra, full_matrices=False)
        basis = left[:, size > RANK * max(size.max(initial=0.0), 1e-300)]
        regressors = regressors - basis @ (basis.T @ regressors)
    return np.linalg.svd(regressors, full_matrices=False)


def shrunk(size: np.ndarray, alpha: float, n_trials: int) -> np.ndarray:
    """Return s / (s^2 + lambda), lambda = alpha times the mean of s^2 over the trials."""
    penalty = alpha * np.sum(size**2) / n_trials
    there = size > RANK * size.max(initial=0.0)
    return np.where(there, size, 0.0) / np.where(there, size**2 + penalty, 1.0)


def unit(regressor: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """Return a regressor of length 1 without what `extra` explains of it."""
    own = decomposed(regressor[:, None], extra)[0][:, 0]
    return own if own @ regressor >= 0 else -own


@dataclass(frozen=True)
class RidgePlan:
    """What a choice among shrinkages needs, for each response.

    `weights` (time, rank + column) are the left singular vectors of the regressors, then a basis
    of all that is not shrunk; `sizes` and `rights` are the rest of the decomposition.
    """

    weights: list[np.ndarray]
    sizes: list[np.ndarray]
    rights: list[np.ndarray]


def ridge_plan(
    regressors: Sequence[np.ndarray], extra: Sequence[np.ndarray], basis: np.ndarray
) -> RidgePlan:
    """Return the plan of regressors that drift and confounds (`basis`) do not explain."""
    weights, sizes, rights = [], [], []
    for own, rest in zip(regressors, extra, strict=True):
        left, size, right = decomposed(own, rest)
        fixed = np.zeros(rest.shape)
        if rest.size:
            other, length, _ = np.linalg.svd(rest, full_matrices=False)
            fixed = other * (length > RANK * max(length.max(initial=0.0), 1e-300))
        weights.append(np.column_stack([left, basis, fixed]))
        sizes.append(size)
        rights.append(right)
    return RidgePlan(weights, sizes, rights)


def by_least_error(
    sums: np.ndarray,
    choice: np.ndarray | None,
    plan: RidgePlan,
    alphas: Sequence[float],
    n_volumes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ridge amplitudes (trial, voxel) at the alpha of least GCV error, and that alpha.

    Parameters
    ----------
    sums : (weight + 2, voxel) under the plan's weights, then the mean, then the sum of squares
    choice : (voxel,) response of each voxel
    n_volumes : that count

    Source: Golub, Heath, Wahba 1979, Technometrics 21:215, eq. 1.4.
    """
    n_voxels = sums.shape[1]
    out = np.zeros((plan.rights[0].shape[1], n_voxels))
    best = np.zeros(n_voxels)
    responses_of = np.zeros(n_voxels, int) if choice is None else choice
    for k in np.unique(responses_of):
        mine = np.flatnonzero(responses_of == k)
        size, right, own = plan.sizes[k], plan.rights[k], sums[:, mine]
        rank = len(size)
        along, fixed = own[:rank], own[rank:-2]
        left_over = own[-1] - np.sum(fixed**2, axis=0)
        n_fixed = int((plan.weights[k][:, rank:] != 0).any(axis=0).sum())
        least = np.full(len(mine), np.inf)
        for alpha in alphas:
            factor = shrunk(size, alpha, right.shape[1])
            share = size * factor
            free = n_volumes - n_fixed - share.sum()
            if free <= 0:
                continue
            rest = left_over - ((2 * share - share**2)[:, None] * along**2).sum(axis=0)
            error = np.maximum(rest, 0.0) / free**2
            better = (error < least) | ~np.isfinite(error)
            least[better] = error[better]
            best[mine[better]] = alpha
            out[:, mine[better]] = right.T @ (factor[:, None] * along[:, better])
    return out, best
