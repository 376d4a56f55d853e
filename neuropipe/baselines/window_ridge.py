"""Linear decoders of behaviour from windows of spikes: ridge, and weights of low rank."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr

from neuropipe.baselines.readouts import fold_of_bins, linear_readout, ridge
from neuropipe.baselines.window_config import ReducedRankConfig, WindowedDecoderConfig
from neuropipe.baselines.windowed import WindowedDecoder, in_pieces

ROUNDS = 6  # of alternating least squares
TRIED = (1e-2, 1e-1, 1.0)  # penalties, a window, for inputs of sd 1


class RidgeDecoder(WindowedDecoder):
    """Ridge regression on counts of the present window and of as long pieces of its past.

    The penalty is chosen on consecutive parts of the training windows, left out in turn.
    """

    def learn(
        self, x: np.ndarray, y: np.ndarray, *, seed: int, device: str, checkpoint: Path | None
    ) -> dict[str, np.ndarray]:
        """Fit in closed form; nothing is drawn, so the seed is not used."""
        flat = in_pieces(x, self.config.window_bins).reshape(len(x), -1)
        found = linear_readout(flat, y, fold_of_bins([len(x)]))
        out = {"weight": found.by_input(), "offset": found(np.zeros((1, flat.shape[1])))[0]}
        self.history_ = _done(y, flat @ out["weight"].T + out["offset"])
        return out

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return scaled labels (window, target)."""
        flat = in_pieces(x, self.config.window_bins).reshape(len(x), -1)
        return np.asarray(flat @ self._learned["weight"].T + self._learned["offset"])


class ReducedRank(WindowedDecoder):
    """Regression on every bin of past and present, with few courses over time.

    y_k = sum_lu x_lu sum_r V_lr U_urk: r courses over bins that all units and targets share, by
    alternating ridge regressions; rank and penalty are chosen on consecutive parts of the training
    windows.
    """

    settings: ClassVar[type[WindowedDecoderConfig]] = ReducedRankConfig
    config: ReducedRankConfig

    def learn(
        self, x: np.ndarray, y: np.ndarray, *, seed: int, device: str, checkpoint: Path | None
    ) -> dict[str, np.ndarray]:
        """Fit by alternating least squares from smooth courses; the seed is not used."""
        config = self.config
        fold = fold_of_bins([len(x)])
        tried = [(r, p) for r in config.ranks if r <= x.shape[1] for p in TRIED]
        error = np.zeros(len(tried))
        for f in np.unique(fold) if len(tried) > 1 else ():
            fit, judge = fold != f, fold == f
            for n, (rank, penalty) in enumerate(tried):
                course, weight, offset = low_rank(x[fit], y[fit], rank, penalty)
                error[n] += ((y[judge] - apply(x[judge], course, weight) - offset) ** 2).sum()
        rank, penalty = tried[int(error.argmin())]
        course, weight, offset = low_rank(x, y, rank, penalty)
        self.history_ = _done(y, apply(x, course, weight) + offset)
        return {"course": course, "weight": weight, "offset": offset}

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return scaled labels (window, target)."""
        learned = self._learned
        return apply(x, learned["course"], learned["weight"]) + learned["offset"]


def apply(x: np.ndarray, course: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return (window, target) of courses (bin, rank) and weights (input, rank, target)."""
    return np.tensordot(np.tensordot(x, course, (1, 0)), weight, ((1, 2), (0, 1)))


def low_rank(
    x: np.ndarray, y: np.ndarray, rank: int, penalty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return courses (bin, rank), weights (input, rank, target) and offset (target,)."""
    n_windows, n_bins, n_inputs = x.shape
    n_targets = y.shape[1]
    place = (np.arange(n_bins) + 0.5) / n_bins
    course = np.cos(np.pi * np.arange(rank) * place[:, None])
    for _ in range(ROUNDS):
        course = np.linalg.qr(course)[0]
        seen = np.tensordot(x, course, (1, 0)).reshape(n_windows, -1)
        flat, offset = ridge(seen, y, penalty)
        weight = flat.T.reshape(n_inputs, rank, n_targets)
        through = np.tensordot(x, weight, (2, 0)).transpose(0, 3, 1, 2)
        through = through.reshape(n_windows * n_targets, -1)
        both, _ = ridge(through, (y - offset).reshape(-1, 1), penalty)
        course = both.reshape(n_bins, rank)
    course, mix = np.linalg.qr(course)
    weight = np.einsum("sr,urk->usk", mix, weight)
    offset = (y - apply(x, course, weight)).mean(0)
    return course, weight, offset


def _done(y: np.ndarray, estimate: np.ndarray) -> xr.Dataset:
    value = float(((y - estimate) ** 2).mean())
    return xr.Dataset({"objective": ("step", [value], {"units": "1"})}, attrs={"converged": 1})
