"""Correlation of every unit with every other one some bins later: the plainest connectivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from neuropipe.baselines.weights import plain_names
from neuropipe.baselines.window_config import LaggedConfig
from neuropipe.batching.decoding import circular_shifts
from neuropipe.batching.raster import Raster, keep_units, read_raster
from neuropipe.batching.refusals import refuse_lone, refuse_unfitted
from neuropipe.config import build
from neuropipe.errors import DataError, NotFittedError
from neuropipe.runtime import generator
from neuropipe.schema import Recording, Var

PAIRS = ("unit", "source_unit")


class LaggedCorrelation:
    """Pearson's r of a unit's counts with a source's counts some bins before.

    Parameters
    ----------
    **settings
        Fields of `LaggedConfig`.

    Notes
    -----
    Pairs of bins lie in one stretch. The null shifts every unit circularly by a time of its own,
    so that what units share by chance, or by slow changes of their own, stays. One session.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = {
        "drive": Var(("time", "unit"), "1", "f", "sources' counts, by correlation"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "connectivity": Var(PAIRS, "1", "f", "correlation of a unit with the source before"),
        "connectivity_z": Var(PAIRS, "1", "f", "sds from the shifts", optional=True),
        "connectivity_p": Var(PAIRS, "1", "f", "chance of so large a size", optional=True),
    }

    def __init__(self, **settings: Any) -> None:
        self.config = build(LaggedConfig, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Correlate the training windows; the seed draws the shifts.

        Raises
        ------
        DataError
            If there are several sessions: their units are not the same.
        """
        refuse_lone(recordings)
        if len(recordings) != 1:
            raise DataError(
                f"lagged_correlation: {len(recordings)} sessions, expected one; give each session "
                "a run of its own"
            )
        [raster] = keep_units([read_raster(recordings[0])], self.config.min_spikes)
        counts, later = raster.counts(), _later(raster, self.config.lag_bins)
        self._unit = raster.unit
        self._mean, self._sd = counts.mean(0), np.maximum(counts.std(0), 1e-12)
        scaled = (counts - self._mean) / self._sd
        self._value = correlation(scaled, later)
        rng = generator(seed, "lagged-shifts")
        number = self.config.n_shuffles if len(scaled) >= 8 else 0
        null = np.array([correlation(_shifted(scaled, rng), later) for _ in range(number)])
        self._z = self._p = np.zeros((0, 0))
        if number:
            sd = null.std(0)
            self._z = (self._value - null.mean(0)) / np.where(sd > 0, sd, np.nan)
            size = np.abs(null - null.mean(0))
            above = (size >= np.abs(self._value - null.mean(0))).sum(0)
            self._p = (1 + above) / (1 + len(null))
        self.history_ = xr.Dataset(
            {"objective": ("step", [float(np.abs(self._value).mean())], {"units": "1"})},
            attrs={"converged": 1},
        )
        return self

    @property
    def parameters_(self) -> xr.Dataset:
        """Correlations, and how they stand to the shifts."""
        found = {"": self._value, "_z": self._z, "_p": self._p}
        return xr.Dataset(
            {f"connectivity{n}": (PAIRS, v, {"units": "1"}) for n, v in found.items() if v.size},
            {d: (d, self._unit, {"units": "1"}) for d in PAIRS},
            {"lag_bins": self.config.lag_bins},
        )

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``drive (time, unit)``: the correlations times the sources' scaled counts."""
        if not hasattr(self, "_unit"):
            raise NotFittedError("lagged_correlation: call fit (or load) before transform")
        raster = read_raster(recording).only(self._unit)
        scaled = (raster.counts() - self._mean) / self._sd
        other = self._value - np.diag(np.diag(self._value))
        drive = np.zeros_like(scaled)
        at = _later(raster, self.config.lag_bins)
        drive[at[1]] = scaled[at[0]] @ other.T
        return xr.Dataset(
            {"drive": (("time", "unit"), drive.astype(np.float32), {"units": "1"})},
            {
                "time": ("time", raster.time[raster.inside()], {"units": "s"}),
                "unit": ("unit", self._unit, {"units": "1"}),
            },
        )

    def score(self, recording: Recording) -> dict[str, float]:
        """Return nothing: correlations predict no chances."""
        self.transform(recording)
        return {}

    def save(self, path: Path) -> None:
        """Write the fitted baseline into a folder."""
        refuse_unfitted(self, "_unit")
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        np.savez(
            path / "weights.npz", unit=plain_names(self._unit), mean=self._mean, sd=self._sd,
            value=self._value, z=self._z, p=self._p,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        config = LaggedConfig.model_validate_json((path / "config.json").read_text())
        out = cls(**config.model_dump())
        with np.load(path / "weights.npz", allow_pickle=False) as stored:
            for name in stored.files:
                setattr(out, f"_{name}", stored[name])
        return out


def correlation(scaled: np.ndarray, later: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the mean product of scaled counts (bin, unit) with those some bins later."""
    before, after = later
    return np.asarray(scaled[after].T @ scaled[before] / max(len(before), 1))


def _later(raster: Raster, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of bins, by their place inside the stretches, that lie `lag` apart."""
    length = raster.stop - raster.first
    number = np.repeat(np.arange(len(length)), length)
    before = (
        np.flatnonzero(number[:-lag] == number[lag:]) if len(number) > lag else np.zeros(0, int)
    )
    return before, before + lag


def _shifted(scaled: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n, n_units = scaled.shape
    shift = circular_shifts(n, n_units, rng)
    at = (np.arange(n)[:, None] - shift) % n
    return np.take_along_axis(scaled, at, 0)
