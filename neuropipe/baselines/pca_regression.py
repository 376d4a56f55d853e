"""Principal components of smoothed counts and ridge regression, in both directions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from sklearn.decomposition import PCA

from neuropipe.baselines.config import PCAConfig
from neuropipe.baselines.coupled import LEARNS, WRITES, Coupled, open_door, through
from neuropipe.baselines.readouts import cut_in_folds, linear_readout, smooth
from neuropipe.baselines.smoothed_factors import candidates, chosen
from neuropipe.batching.held_units import groups_of
from neuropipe.batching.paired import column_scaling, read_training
from neuropipe.batching.refusals import NOTHING_TO_TELL, refuse_unfitted, say_undefined
from neuropipe.config import build
from neuropipe.schema import Recording, Var

log = logging.getLogger(__name__)

ROOM = 1.5  # times the largest training value, that later ones are cut at


@dataclass(frozen=True)
class Components:
    """Principal components, one set for each choice of seen units.

    Attributes
    ----------
    smoothing_bins : float
    mean, sd : (unit,)
        Of the smoothed training data.
    low, high : (unit,)
        Their ends, scaled, with half as much room. Data are kept between them: a unit that is all
        but silent in training, and hence has a tiny sd, would burst out of all proportion later.
    seen : (set, unit), bool
        Units that each set was fitted on.
    loading : (set, unit, latent)
        Zero for units that a set does not see.
    """

    smoothing_bins: float
    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seen: np.ndarray
    loading: np.ndarray

    def __call__(self, blocks: Sequence[np.ndarray], seen: np.ndarray) -> np.ndarray:
        """Return scores (bin, latent) on the components of the units that are seen."""
        data = np.concatenate([smooth(b, self.smoothing_bins) for b in blocks])
        number = int(np.flatnonzero((self.seen == seen).all(1))[0])
        return np.asarray(self.scaled(data) @ self.loading[number])

    def scaled(self, data: np.ndarray) -> np.ndarray:
        """Return smoothed data (bin, unit) as components are taken of, zero where missing."""
        return np.clip(np.nan_to_num((data - self.mean) / self.sd), self.low, self.high)


def components(
    data: np.ndarray, masks: Sequence[np.ndarray], n_latents: int, sd_bins: float
) -> Components:
    """Fit components of smoothed data (bin, unit) for each mask (unit,) of seen units."""
    mean, sd = column_scaling(data)
    scaled = (data - mean) / sd
    loading = np.zeros((len(masks), data.shape[1], n_latents))
    for k, seen in enumerate(masks):
        n = min(n_latents, int(seen.sum()))
        model = PCA(n, svd_solver="covariance_eigh").fit(scaled[:, seen])
        loading[k][seen, :n] = model.components_.T
    ends = ROOM * scaled.min(0), ROOM * scaled.max(0)
    return Components(sd_bins, mean, sd, *ends, np.array(masks), loading)


class PCARegression:
    """Scores on principal components; units and behaviour are regressed on them by ridge.

    Parameters
    ----------
    **settings
        Fields of `PCAConfig`.

    Notes
    -----
    Filter and number of components are chosen inside the training windows, one after the other,
    by behaviour in left-out thirds; without behaviour by the units' own counts there. Predicted
    counts are raised to a tenth of the unit's mean, since a linear prediction knows no zero.
    Neural activity follows from behaviour through the components.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = WRITES
    learns: ClassVar[Mapping[str, Var]] = {
        **LEARNS,
        "smoothing_sd": Var((), "s", "f", "of the Gaussian filter that was chosen"),
    }

    def __init__(self, **settings: Any) -> None:
        self.config = build(PCAConfig, settings, type(self).__name__)

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
        aims = [b for p in parts for b in p.behavior] if len(door.channels) else blocks
        sds = candidates(c.smoothing_bins)
        numbers = candidates(c.n_latents, len(door.units))
        middle = [numbers[len(numbers) // 2]]
        by_sd = [regression_error(blocks, aims, s, middle)[0] for s in sds] if len(sds) > 1 else [0]
        sd = float(sds[int(np.argmin(by_sd))])
        by_number = regression_error(blocks, aims, sd, numbers)
        n_latents = numbers[int(np.argmin(by_number))]
        log.info("pca_regression: filter of %g bins, %d components", sd, n_latents)
        data = np.concatenate([smooth(b, sd) for b in blocks])
        everyone = np.ones(len(door.units), bool)
        masks = [everyone, *(~held for held in groups_of(len(door.units)))]
        encoder = components(data[np.isfinite(data).all(1)], masks, n_latents, sd)
        self._coupled = Coupled.fit(encoder, parts, door, degree=c.behavior_degree, linear=True)
        self._tried = np.array(numbers), np.array(by_number)
        self.history_ = xr.Dataset(
            {"objective": ("step", [min(by_number)], {"units": "1"})}, attrs={"converged": 1}
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
        coupled, config, arrays = Coupled.load(path, Components)
        out = cls(**PCAConfig.model_validate_json(config).model_dump())
        out._coupled, out._tried = coupled, (arrays["tried"], arrays["error"])
        return out


def regression_error(
    blocks: Sequence[np.ndarray],
    aims: Sequence[np.ndarray],
    sd_bins: float,
    numbers: Sequence[int],
) -> list[float]:
    """Return the squared error of targets in left-out thirds, for each number of components.

    Parameters
    ----------
    blocks : sequence of (bin, unit)
        Windows of neural activity, not smoothed.
    aims : sequence of (bin, target)
        Of the same bins: behaviour, or the activity itself, then told from other units.
    sd_bins : float
    numbers : sequence of int

    Returns
    -------
    list of float
        Over the targets' variance, mean over targets.
    """
    n_units = blocks[0].shape[1]
    everyone = np.ones(n_units, bool)
    own = aims is blocks
    groups = groups_of(n_units) if own else []
    masks = [~held for held in groups] or [everyone]
    targets = groups or [np.ones(aims[0].shape[1], bool)]
    _, spread = column_scaling(np.concatenate(aims))
    total = np.zeros(len(numbers))
    folds = cut_in_folds([len(b) for b in blocks])
    for f, judge in enumerate(folds):
        fit = [(w, part) for g in range(len(folds)) if g != f for w, part in folds[g]]
        x, given = (
            np.concatenate(
                [smooth(blocks[w][part], sd_bins) for w, part in some] or [blocks[0][:0]]
            )
            for some in (fit, judge)
        )
        y, truth = (
            np.concatenate([aims[w][part] for w, part in some] or [aims[0][:0]])
            for some in (fit, judge)
        )
        rows = np.isfinite(x).all(1)
        if not rows.any() or not len(truth) or not np.isfinite(y[rows]).any(0).all():
            continue
        half = np.arange(int(rows.sum())) * 2 // int(rows.sum())
        made = components(x[rows], masks, max(numbers), sd_bins)
        scaled, judged = made.scaled(x[rows]), made.scaled(given)
        for loading, target in zip(made.loading, targets, strict=True):
            for k, number in enumerate(numbers):
                few = loading[:, :number]
                readout = linear_readout(scaled @ few, y[rows][:, target], half)
                gap = truth[:, target] - readout(judged @ few)
                total[k] += float(np.nansum((gap / spread[target]) ** 2))
    return [float(t) for t in total / max(sum(np.isfinite(b).sum() for b in aims), 1)]
