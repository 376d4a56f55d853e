"""What the Neuroformer's door learns from the training data before any batch is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuropipe.batching.paired import column_scaling
from neuropipe.batching.raster import Raster, keep_units, read_raster
from neuropipe.batching.refusals import refuse_lone
from neuropipe.batching.tokens import (
    Windows,
    cut_windows,
    frames_of,
    window_mean,
)
from neuropipe.errors import DataError
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.model import Sizes
from neuropipe.schema import Recording


@dataclass(frozen=True)
class Scaling:
    """What the door learned from the training data, and applies to all others.

    Attributes
    ----------
    units : mapping of session to (unit,)
        Identifiers of the units that are modelled, in the order of their numbers.
    rate : mapping of session to (unit,)
        Mean count a bin.
    several : mapping of session to (unit,)
        Mean count of the bins that have any.
    mean, sd : (channel,)
        Of covariates, then targets.
    edges : (target, class - 1)
        Where classes meet.
    centers : (target, class)
        Mean of each class.
    pixel : (float, float)
        Mean and sd of the frames.
    frame : (int, int) or None
        Pixels (y, x) of a frame.
    channel_units : tuple of str
        Of covariates, then targets.
    """

    units: Mapping[str, np.ndarray]
    rate: Mapping[str, np.ndarray]
    several: Mapping[str, np.ndarray]
    mean: np.ndarray
    sd: np.ndarray
    edges: np.ndarray
    centers: np.ndarray
    pixel: tuple[float, float]
    frame: tuple[int, int] | None
    channel_units: tuple[str, ...]
    bin_width_s: float

    @property
    def first(self) -> dict[str, int]:
        """Number of each session's first unit."""
        ends = np.cumsum([0, *(len(u) for u in self.units.values())])
        return {key: int(n) for key, n in zip(self.units, ends, strict=False)}

    @property
    def n_units(self) -> int:
        """Units of all sessions."""
        return sum(len(u) for u in self.units.values())


def read(recording: Recording, config: Config) -> Raster:
    """Read a recording as the configuration says.

    Raises
    ------
    DataError
        If a covariate is NaN and `missing_covariates` says refuse.
    """
    raster = read_raster(
        recording, signals=(*config.covariates, *config.targets), stimulus=config.stimulus
    )
    n = len(config.covariates)
    if config.missing_covariates == "refuse" and n:
        lost = ~np.isfinite(raster.signal[:, :n])
        if lost.any():
            name = raster.channels[int(np.flatnonzero(lost.any(0))[0])]
            raise DataError(
                f"neuroformer: {raster.key}: covariate {name!r} is NaN in "
                f"{int(lost.any(1).sum())} of {len(lost)} bins; say missing_covariates: hide to "
                "go without those, or drop the covariate"
            )
    return raster


def read_training(
    recordings: Sequence[Recording], config: Config
) -> tuple[list[Raster], Scaling]:  # fmt: skip
    """Read the training windows, with units, scales and classes chosen by them alone.

    Raises
    ------
    DataError
        If there is no recording, one comes twice, they differ in bins, frames or units of
        signals, or a target has no label.
    """
    refuse_lone(recordings)
    if not recordings:
        raise DataError("neuroformer: no recording to fit")
    rasters = sorted((read(r, config) for r in recordings), key=lambda r: r.key)
    keys = [r.key for r in rasters]
    if len(set(keys)) < len(keys):
        twice = next(k for k in keys if keys.count(k) > 1)
        raise DataError(f"neuroformer: two recordings have the key {twice!r} of subject/session")
    rasters = [few_labels(r, config) for r in keep_units(rasters, config.min_spikes)]
    first = rasters[0]
    for other in rasters[1:]:
        shapes = [None if r.movie is None else r.movie.pixel.shape[1:] for r in (first, other)]
        if abs(other.bin_width_s - first.bin_width_s) > 1e-9 or shapes[0] != shapes[1]:
            raise DataError(
                f"neuroformer: {first.key} has bins of {first.bin_width_s:g} s and frames of "
                f"{shapes[0]}, {other.key} of {other.bin_width_s:g} s and {shapes[1]}; prepare all "
                "sessions alike"
            )
        if other.channel_units != first.channel_units:
            raise DataError(
                f"neuroformer: signals of {first.key} are in {first.channel_units}, of {other.key} "
                f"in {other.channel_units}; bring them to one unit"
            )
    _labelled(rasters, config)
    return rasters, scaling_of(rasters, config)


def _labelled(rasters: Sequence[Raster], config: Config) -> None:
    """Refuse a target without a single label: its decoder would keep its random weights."""
    for k, name in enumerate(config.targets):
        column = [r.signal[r.inside(), len(config.covariates) + k] for r in rasters]
        if not np.isfinite(np.concatenate(column)).any():
            raise DataError(
                f"neuroformer: target {name!r} has no value in the training windows; leave it out "
                "of `targets`, or raise label_share"
            )


def scaling_of(rasters: Sequence[Raster], config: Config) -> Scaling:
    """Learn units, rates, scales and classes from rasters."""
    n_classes = config.n_classes if config.target_kind == "classes" else 0
    signal = np.concatenate([r.signal[r.inside()] for r in rasters])
    mean, sd = column_scaling(signal)
    n = len(config.covariates)
    edges = np.zeros((len(config.targets), max(n_classes - 1, 0)))
    centers = np.zeros((len(config.targets), n_classes))
    if n_classes:
        label = np.concatenate([window_mean(r, cut_windows(r, config.window_bins, 0),
                                            n + np.arange(len(config.targets)))
                                for r in rasters])  # fmt: skip
        for k, column in enumerate(label.T):
            known = column[np.isfinite(column)]
            if not len(known):
                continue
            edges[k] = np.quantile(known, np.arange(1, n_classes) / n_classes)
            which = np.searchsorted(edges[k], known, side="right")
            number = np.bincount(which, minlength=n_classes)
            total = np.bincount(which, known, minlength=n_classes)
            ends = np.concatenate([[known.min()], edges[k], [known.max()]])
            middle = (ends[:-1] + ends[1:]) / 2
            centers[k] = np.where(number > 0, total / np.maximum(number, 1), middle)
    shown = [_shown(r) for r in rasters if r.movie is not None]
    pixels = np.concatenate([p.ravel() for p in shown]) if shown else np.zeros(1)
    frame = None if not shown else (shown[0].shape[1], shown[0].shape[2])
    return Scaling(
        {r.key: r.unit for r in rasters}, {r.key: r.total() / r.n_bins for r in rasters},
        {r.key: r.total() / r.occupied() for r in rasters},
        mean, sd, edges, centers, (float(pixels.mean()), float(pixels.std()) or 1.0), frame,
        rasters[0].channel_units, rasters[0].bin_width_s,
    )  # fmt: skip


def _shown(raster: Raster) -> np.ndarray:
    """Return the frames that the stretches show."""
    frame, _ = frames_of(raster, cut_windows(raster, 1, 0), 1)
    seen = np.unique(frame[frame >= 0])
    if not len(seen):
        raise DataError(
            f"neuroformer: {raster.key}: no frame of the stimulus lies in the training windows"
        )
    return raster.movie.pixel[seen]  # type: ignore[union-attr]


def sizes_of(scaling: Scaling, config: Config) -> Sizes:
    """Return what the network must be built for.

    Raises
    ------
    DataError
        If a patch is larger than the frames.
    """
    patch = config.patch
    frame = scaling.frame
    if frame is not None:
        patch = patch or (max(frame[0] // 2, 1), max(frame[1] // 4, 1))
        if patch[0] > frame[0] or patch[1] > frame[1]:
            raise DataError(f"neuroformer: patch {patch} is larger than the frames, {frame} pixels")
    return Sizes(
        scaling.n_units, config.window_bins, config.history_bins, len(config.covariates), frame,
        patch or (1, 1), config.n_frames, len(config.targets),
        config.n_classes if config.target_kind == "classes" else 0,
    )  # fmt: skip


def labels_of(raster: Raster, windows: Windows, scaling: Scaling, config: Config) -> np.ndarray:
    """Return scaled labels or classes (window, target); NaN, or -1, where there is none."""
    n, k = len(config.covariates), len(config.targets)
    value = window_mean(raster, windows, n + np.arange(k))
    if config.target_kind == "regression":
        return (value - scaling.mean[n:]) / scaling.sd[n:]
    known = np.isfinite(value)
    which = [
        np.searchsorted(e, v, side="right") for e, v in zip(scaling.edges, value.T, strict=True)
    ]
    return np.where(known, np.stack(which, 1) if which else value, -1)


def few_labels(raster: Raster, config: Config) -> Raster:
    """Return the raster with the targets of its first `label_share` of bins only."""
    if config.label_share == 1 or not config.targets:
        return raster
    signal = raster.signal.copy()
    at = np.flatnonzero(raster.inside())
    signal[at[round(config.label_share * len(at)) :], len(config.covariates) :] = np.nan
    return replace(raster, signal=signal)
