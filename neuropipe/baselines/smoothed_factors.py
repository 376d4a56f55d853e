"""Factor analysis of smoothed square roots of counts, by scikit-learn: the peer to beat."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from sklearn.decomposition import FactorAnalysis

from neuropipe.baselines.config import FactorsConfig
from neuropipe.baselines.coupled import LEARNS, WRITES, Coupled, open_door, through
from neuropipe.baselines.readouts import cut_in_folds, smooth
from neuropipe.batching.held_units import groups_of
from neuropipe.batching.paired import read_training
from neuropipe.batching.refusals import NOTHING_TO_TELL, refuse_unfitted, say_undefined
from neuropipe.config import build
from neuropipe.schema import Recording, Var

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Factors:
    """Factor analysis of smoothed data; called, it returns latents of windows.

    Attributes
    ----------
    smoothing_bins : float
    counted : bool
        Whether square roots are taken.
    mean, noise : (unit,)
        Of the smoothed data, and the variance that is each unit's own.
    loading : (unit, latent)
    """

    smoothing_bins: float
    counted: bool
    mean: np.ndarray
    noise: np.ndarray
    loading: np.ndarray

    def __call__(self, blocks: Sequence[np.ndarray], seen: np.ndarray) -> np.ndarray:
        """Return the posterior mean of the factors, given the units that are seen."""
        data = smoothed(blocks, self.smoothing_bins, self.counted)
        return np.asarray(self.given(np.where(np.isfinite(data), data, self.mean), seen))

    def given(self, data: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the posterior mean for smoothed data (bin, unit)."""
        scaled = self.loading[seen] / self.noise[seen, None]
        precision = np.eye(self.loading.shape[1]) + scaled.T @ self.loading[seen]
        return np.linalg.solve(precision, scaled.T @ (data - self.mean)[:, seen].T).T


def roots(blocks: Sequence[np.ndarray], counted: bool) -> list[np.ndarray]:
    """Return square roots of counts, which makes their variance alike; traces as they are."""
    return [np.sqrt(b) if counted else b for b in blocks]


def smoothed(blocks: Sequence[np.ndarray], sd_bins: float, counted: bool) -> np.ndarray:
    """Return filtered roots (bin, unit) of windows, laid end to end."""
    return np.concatenate([smooth(b, sd_bins) for b in roots(blocks, counted)])


def factor_analysis(data: np.ndarray, n_latents: int) -> tuple[FactorAnalysis, np.ndarray]:
    """Fit factor analysis to data (bin, unit) without NaN; also the data's mean.

    Notes
    -----
    The fit depends on the covariance alone, so two rows a unit of the same covariance stand for
    all bins: many times faster, same result.
    """
    n_bins, n_units = data.shape
    covariance = np.cov(data.T, bias=True).reshape(n_units, n_units)
    # a unit that never changes once smoothed still needs some variance of its own
    covariance += 1e-9 * max(float(np.trace(covariance)) / n_units, 1e-12) * np.eye(n_units)
    root = np.linalg.cholesky(covariance).T * np.sqrt(n_units)
    stand_in = np.concatenate([root, -root])
    model = FactorAnalysis(
        n_latents, svd_method="lapack", tol=1e-2 * len(stand_in) / n_bins, max_iter=2000
    )
    return model.fit(stand_in), data.mean(0)


def candidates(given: Any, n_units: int | None = None) -> list[Any]:
    """Return what a setting of one or several numbers allows; numbers of latents below units."""
    several = list(given) if isinstance(given, tuple) else [given]
    if n_units is None:
        return several
    return sorted({max(min(n, n_units - 1), 1) for n in several})


class SmoothedFactors:
    """Factors of smoothed activity; rates and behaviour are regressed on them.

    Parameters
    ----------
    **settings
        Fields of `FactorsConfig`.

    Notes
    -----
    Filter and number of factors are chosen inside the training windows, one after the other, by
    how well left-out units are told from the others in left-out thirds. Rates, also of held-out
    units, are Poisson regressions on the factors; of held-out units on factors that never saw
    them, in training neither.

    Source: the two-stage method of Yu et al., "Gaussian-process factor analysis for
    low-dimensional single-trial analysis of neural population activity", J. Neurophysiol. 2009.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = WRITES
    learns: ClassVar[Mapping[str, Var]] = {
        **LEARNS,
        "smoothing_sd": Var((), "s", "f", "of the Gaussian filter that was chosen"),
    }

    def __init__(self, **settings: Any) -> None:
        self.config = build(FactorsConfig, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Fit on the training windows, on CPU; nothing is drawn, so the seed is not used."""
        c = self.config
        parts = read_training(
            recordings, neural=c.observations, signals=c.signals, min_spikes=c.min_spikes
        )
        door = open_door(parts, c)
        blocks = [b for p in parts for b in p.neural]
        sds = candidates(c.smoothing_bins)
        numbers = candidates(c.n_latents, len(door.units))
        middle = numbers[len(numbers) // 2]
        by_sd = [left_out_error(blocks, door.counted, sd, [middle])[0] for sd in sds] if (
            len(sds) > 1
        ) else [0.0]  # fmt: skip
        sd = float(sds[int(np.argmin(by_sd))])
        by_number = left_out_error(blocks, door.counted, sd, numbers)
        n_latents = numbers[int(np.argmin(by_number))]
        log.info("smoothed_factors: filter of %g bins, %d factors", sd, n_latents)
        data = smoothed(blocks, sd, door.counted)
        model, mean = factor_analysis(data[np.isfinite(data).all(1)], n_latents)
        encoder = Factors(sd, door.counted, mean, model.noise_variance_, model.components_.T)
        self._coupled = Coupled.fit(encoder, parts, door, degree=c.behavior_degree, linear=False)
        self._tried = np.array(numbers), np.array(by_number)
        self.history_ = xr.Dataset(
            {"objective": ("step", -np.array(model.loglike_), {"units": "nats"})},
            attrs={"converged": int(model.n_iter_ < 2000)},
        )
        return self

    @property
    def parameters_(self) -> xr.Dataset:
        """Loadings, and what was chosen."""
        return chosen(self._coupled, self._tried)

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``latent (time, latent)``, ``rate (time, unit)`` and ``behavior``."""
        windows = self._windows(recording)
        return self._coupled.estimates(windows)

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the scores of `Coupled.scores`."""
        windows = self._windows(recording)
        scores = self._coupled.scores(windows)
        return say_undefined(scores, recording, NOTHING_TO_TELL)

    def _windows(self, recording: Recording) -> Any:
        refuse_unfitted(self, "_coupled")
        return through(self._coupled.door, recording, self.config)

    def save(self, path: Path) -> None:
        """Write the fitted baseline into a folder."""
        refuse_unfitted(self, "_coupled")
        self._coupled.save(path, self.config, tried=self._tried[0], error=self._tried[1])

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        coupled, config, arrays = Coupled.load(path, Factors)
        out = cls(**FactorsConfig.model_validate_json(config).model_dump())
        out._coupled, out._tried = coupled, (arrays["tried"], arrays["error"])
        return out


def chosen(coupled: Coupled, tried: tuple[np.ndarray, np.ndarray]) -> xr.Dataset:
    """Return loadings, the filter, and the left-out error of each number that was tried."""
    sd_s = float(getattr(coupled.encoder, "smoothing_bins")) * coupled.door.bin_width_s  # noqa: B009
    out = coupled.labelled(smoothing_sd=((), sd_s, {"units": "s"}))
    names = np.array([str(n) for n in tried[0]], dtype=object)
    return out.assign(dimension_score=("dimension", tried[1], {"units": "1"})).assign_coords(
        dimension=("dimension", names, {"units": ""})
    )


def left_out_error(
    blocks: Sequence[np.ndarray], counted: bool, sd_bins: float, numbers: Sequence[int]
) -> list[float]:
    """Return the squared error of left-out units in left-out thirds, for each number of factors.

    Returns
    -------
    list of float
        Of the unsmoothed roots, over their variance, mean over units; the same quantity for every
        filter, so that filters can be compared.
    """
    n_units = blocks[0].shape[1]
    groups = groups_of(n_units) or [np.ones(1, bool)]
    data = roots(blocks, counted)
    variance = np.nanvar(np.concatenate(data), 0)
    variance = np.where(variance > 0, variance, 1.0)
    total = np.zeros(len(numbers))
    folds = cut_in_folds([len(b) for b in blocks])
    for f, judge in enumerate(folds):
        fit = np.concatenate([
            smooth(data[w][part], sd_bins) for g in range(len(folds)) if g != f
            for w, part in folds[g]
        ])  # fmt: skip
        fit = fit[np.isfinite(fit).all(1)]
        aims = np.concatenate([data[w][part] for w, part in judge]) if judge else fit[:0]
        if not len(fit) or not len(aims):
            continue
        given = np.concatenate([smooth(data[w][part], sd_bins) for w, part in judge])
        for k, number in enumerate(numbers):
            model, mean = factor_analysis(fit, number)
            factors = Factors(sd_bins, counted, mean, model.noise_variance_, model.components_.T)
            given_k = np.where(np.isfinite(given), given, mean)
            for held in groups:
                latents = factors.given(given_k, ~held)
                gap = aims[:, held] - latents @ factors.loading[held].T - mean[held]
                total[k] += float(np.nansum(gap**2 / variance[held]))
    return [float(t) for t in total / max(sum(np.isfinite(b).sum() for b in blocks), 1)]
