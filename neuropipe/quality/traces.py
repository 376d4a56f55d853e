"""Sums over a signal that is read once: mean and spread, missing samples, stays at its ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Traces:
    """Running sums of a signal, (column,) each; `add` takes its blocks in order."""

    n: np.ndarray = field(default_factory=lambda: np.zeros(0))
    lost: np.ndarray = field(default_factory=lambda: np.zeros(0))
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ends: list[np.ndarray] = field(default_factory=list)  # least and largest value
    stays: list[np.ndarray] = field(default_factory=list)  # samples that repeat them
    last: np.ndarray | None = None

    def add(self, block: np.ndarray) -> None:
        """Take the next samples, (time, column)."""
        block = block.astype(np.float64)
        if self.last is None:
            zeros = np.zeros(block.shape[1])
            self.n, self.lost, self.mean, self.squares = (zeros.copy() for _ in range(4))
            self.ends = [np.full(block.shape[1], np.inf), np.full(block.shape[1], -np.inf)]
            self.stays = [zeros.copy(), zeros.copy()]
        there = np.isfinite(block)
        n = there.sum(0)
        mean = np.where(there, block, 0.0).sum(0) / np.maximum(n, 1)
        squares = (np.where(there, block - mean, 0.0) ** 2).sum(0)
        total = np.maximum(self.n + n, 1)
        self.squares += squares + (mean - self.mean) ** 2 * self.n * n / total
        self.mean += (mean - self.mean) * n / total
        self.n += n
        self.lost += len(block) - n
        self._stay(block, there)
        self.last = block[-1:]

    def _stay(self, block: np.ndarray, there: np.ndarray) -> None:
        """Count the samples at the least and largest value so far that repeat the one before."""
        before = block if self.last is None else np.concatenate([self.last, block])
        for side, (pick, fill) in enumerate(((np.min, np.inf), (np.max, -np.inf))):
            found = pick(np.where(there, block, fill), axis=0)
            known = self.ends[side]
            new = found < known if side == 0 else found > known
            self.ends[side] = np.where(new, found, known)
            same = before == self.ends[side]
            more = (same[1:] & same[:-1]).sum(0)
            self.stays[side] = np.where(new, 0, self.stays[side]) + more

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation of the finite samples; NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(self.squares / self.n)

    @property
    def lost_share(self) -> np.ndarray:
        """Share of samples that are NaN."""
        return self.lost / np.maximum(self.n + self.lost, 1)

    def clipped(self, both: bool = True) -> np.ndarray:
        """Return the share of samples that stay at an end; NaN for a signal that never varies."""
        stays = self.stays[1] + (self.stays[0] if both else 0)
        varies = self.ends[1] > self.ends[0]
        return np.where(varies, stays / np.maximum(self.n, 1), np.nan)
