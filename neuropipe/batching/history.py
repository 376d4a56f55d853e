"""Spike-history features: counts filtered by a causal basis, one window at a time."""

from __future__ import annotations

import numpy as np

from neuropipe.errors import ConfigError

BASES = ("exponential", "raised_cosine", "lags")


def history_basis(kind: str, n_lags: int, n_basis: int, decay: float = 1.0) -> np.ndarray:
    """Return causal basis functions over the past bins, the most recent bin first.

    Parameters
    ----------
    kind : {"exponential", "raised_cosine", "lags"}
        ``exponential`` is the one fixed function of the HMM-GLM paper; ``raised_cosine`` are
        log-spaced bumps, fine near the spike and broad far from it (Pillow et al. 2008);
        ``lags`` gives every bin of the past its own weight.
    n_lags : int
        Length of the past, bins.
    n_basis : int
        Number of functions; must be 1 for ``exponential`` and is `n_lags` for ``lags``.
    decay : float
        Decay of the exponential, per bin.

    Returns
    -------
    (lag, basis)
        Each column sums to one, so a weight is the effect of one spike a bin, sustained.
    """
    lag = np.arange(1, n_lags + 1)
    if kind == "exponential":
        if n_basis != 1:
            raise ConfigError(
                f"history: the exponential basis is one function, found n_basis={n_basis}; "
                "say n_basis=1 or take raised_cosine"
            )
        columns = np.exp(-decay * lag)[:, None]
    elif kind == "raised_cosine":
        position = np.log(lag)
        centres = np.linspace(position[0], position[-1], n_basis)
        width = (position[-1] - position[0]) / max(n_basis - 1, 1) or 1.0
        phase = np.clip((position[:, None] - centres) * np.pi / (2 * width), -np.pi, np.pi)
        columns = (1 + np.cos(phase)) / 2
    elif kind == "lags":
        columns = np.eye(n_lags)
    else:
        raise ConfigError(f"history: unknown basis {kind!r}; known are {', '.join(BASES)}")
    return columns / columns.sum(axis=0)


def filter_history(counts: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Filter the past of each column of `counts` by each basis function.

    Parameters
    ----------
    counts : (time, unit)
        One uninterrupted window; the past before its first bin counts as silence.
    basis : (lag, basis)
        From `history_basis`.

    Returns
    -------
    (time, unit * basis), float64
        Entry ``unit * n_basis + b`` at bin t is ``sum_k basis[k-1, b] counts[t-k, unit]``: the
        present bin is never part of its own history.
    """
    n_bins, n_units = counts.shape
    n_lags, n_basis = basis.shape
    out = np.zeros((n_bins, n_units, n_basis))
    for k in range(1, min(n_lags, n_bins - 1) + 1):
        out[k:] += counts[:-k, :, None] * basis[k - 1]
    return out.reshape(n_bins, n_units * n_basis)
