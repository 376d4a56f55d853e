"""What decoders of behaviour share: the Neuroformer's windows as plain arrays, scores, files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from neuropipe.baselines.weights import plain_names
from neuropipe.baselines.window_config import WindowedDecoderConfig
from neuropipe.batching.decoding import decoding_scores
from neuropipe.batching.paired import column_scaling
from neuropipe.batching.raster import Raster, keep_units, read_raster, split_tail
from neuropipe.batching.refusals import refuse_lone, say_undefined
from neuropipe.batching.tokens import Windows, around, cut_windows, window_mean
from neuropipe.config import build
from neuropipe.errors import DataError, NotFittedError
from neuropipe.runtime import generator
from neuropipe.schema import Recording, Var


@dataclass(frozen=True)
class Scale:
    """What was learned of the inputs and labels before a decoder.

    Attributes
    ----------
    key : str
        ``subject/session``.
    unit : (unit,)
    mean, sd : (input,)
        Of a bin's counts and covariates.
    label_mean, label_sd : (target,)
    """

    key: str
    unit: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    label_mean: np.ndarray
    label_sd: np.ndarray


def inputs_of(raster: Raster, windows: Windows, config: WindowedDecoderConfig) -> np.ndarray:
    """Return counts and covariates of past and present, (window, bin, input); 0 where missing."""
    counts = np.zeros((len(raster.time), len(raster.unit)), dtype=np.float32)
    np.add.at(counts, (raster.event_bin, raster.event_unit), 1)
    covariate = raster.signal[:, : len(config.covariates)].astype(np.float32)
    whole = np.concatenate([counts, covariate], 1)
    at = around(raster, windows, config.window_bins, config.history_bins)
    return np.where((at >= 0)[..., None], whole[np.maximum(at, 0)], 0.0)


def in_pieces(x: np.ndarray, window_bins: int) -> np.ndarray:
    """Sum (window, bin, input) over pieces of a window's length, the last one the present."""
    n = x.shape[1]
    starts = np.arange(n % window_bins, n, window_bins)
    starts = np.unique(np.concatenate([[0], starts]))
    return np.add.reduceat(x, starts, axis=1)


class WindowedDecoder(ABC):
    """A decoder of behaviour from the windows that the Neuroformer sees.

    Parameters
    ----------
    **settings
        Fields of its configuration.

    Notes
    -----
    Same units, same windows and past, same labels and the same null. One session at a time.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts", "behavior")
    writes: ClassVar[Mapping[str, Var]] = {
        "behavior": Var(("time", "channel"), None, "f", "decoded, of the bin's window"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "label_mean": Var(("channel",), None, "f", "of the training windows"),
        "n_weights": Var((), "1", "i", "numbers that were learned"),
    }
    settings: ClassVar[type[WindowedDecoderConfig]] = WindowedDecoderConfig
    config: WindowedDecoderConfig
    history_: xr.Dataset

    def __init__(self, **settings: Any) -> None:
        self.config = build(self.settings, settings, type(self).__name__)

    @abstractmethod
    def learn(
        self, x: np.ndarray, y: np.ndarray, *, seed: int, device: str, checkpoint: Path | None
    ) -> dict[str, np.ndarray]:
        """Return what is learned of scaled inputs (window, bin, input) and labels.

        Sets ``history_`` too.
        """

    @abstractmethod
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return scaled labels (window, target) from scaled inputs."""

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Learn from the training windows.

        Raises
        ------
        DataError
            If there are several sessions, no target, or no window with a label.
        """
        c = self.config
        refuse_lone(recordings)
        if len(recordings) != 1:
            raise DataError(
                f"decoders: {len(recordings)} sessions, expected one: their units are not the same "
                "inputs; give each session a run of its own"
            )
        if not c.targets:
            raise DataError("decoders: `targets` names no signal of node behavior to decode")
        [raster] = keep_units([self._read(recordings[0])], c.min_spikes)
        if c.label_share < 1:
            raster = split_tail(raster, 1 - c.label_share, 0)[0]
        windows = cut_windows(raster, c.window_bins, c.history_bins)
        label = window_mean(raster, windows, len(c.covariates) + np.arange(len(c.targets)))
        known = np.isfinite(label).all(1)
        if known.sum() < 2:
            raise DataError(
                f"decoders: {raster.key}: {int(known.sum())} training windows with a label, "
                "expected at least 2"
            )
        inside = np.concatenate([raster.counts(), raster.signal[raster.inside()]], 1)
        mean, sd = column_scaling(inside[:, : len(raster.unit) + len(c.covariates)])
        self._scale = Scale(raster.key, raster.unit, mean, sd, *column_scaling(label[known]))
        x = self._scaled(raster, windows.take(np.flatnonzero(known)))
        y = (label[known] - self._scale.label_mean) / self._scale.label_sd
        self._learned = self.learn(x, y, seed=seed, device=device, checkpoint=checkpoint)
        return self

    def _read(self, recording: Recording) -> Raster:
        c = self.config
        raster = read_raster(recording, signals=(*c.covariates, *c.targets))
        lost = not np.isfinite(raster.signal[:, : len(c.covariates)]).all()
        if lost and c.missing_covariates == "refuse":
            raise DataError(
                f"decoders: {raster.key}: a covariate is NaN; say missing_covariates: hide, or "
                "leave it out"
            )
        return raster

    def _scaled(self, raster: Raster, windows: Windows) -> np.ndarray:
        x = inputs_of(raster, windows, self.config)
        scaled = ((x - self._scale.mean) / self._scale.sd).astype(np.float32)
        return np.where(np.isfinite(scaled), scaled, 0.0)  # what is missing stands at its mean

    def _decoded(self, recording: Recording) -> tuple[Raster, Windows, np.ndarray]:
        """Return a recording, its windows and their labels as decoded, in their own units."""
        if not hasattr(self, "_learned"):
            raise NotFittedError("decoders: call fit (or load) before transform and score")
        raster = self._read(recording)
        if raster.key != self._scale.key:
            raise DataError(
                f"decoders: fitted on {self._scale.key}, found {raster.key}, whose units are others"
            )
        raster = raster.only(self._scale.unit)
        windows = cut_windows(raster, self.config.window_bins, self.config.history_bins)
        value = self.predict(self._scaled(raster, windows))
        return raster, windows, value * self._scale.label_sd + self._scale.label_mean

    @property
    def parameters_(self) -> xr.Dataset:
        """The labels' means, and how many numbers were learned."""
        c = self.config
        return xr.Dataset(
            {
                "label_mean": ("channel", self._scale.label_mean, {"units": "1"}),
                "n_weights": ((), sum(a.size for a in self._learned.values()), {"units": "1"}),
            },
            {"channel": ("channel", np.array(c.targets, dtype=object), {"units": ""})},
        )

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``behavior (time, channel)``, decoded of each bin's window."""
        raster, windows, value = self._decoded(recording)
        units = raster.channel_units[len(self.config.covariates) :]
        kind = units[0] if len(set(units)) == 1 else "mixed"
        names = np.array(self.config.targets, dtype=object)
        return xr.Dataset(
            {
                "behavior": (
                    ("time", "channel"), np.repeat(value, windows.size, 0).astype(np.float32),
                    {"units": kind},
                )
            },
            {
                "time": ("time", raster.time, {"units": "s"}),
                "channel": ("channel", names, {"units": ""}),
            },
        )  # fmt: skip

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the `decoding_scores` of a recording's windows."""
        c = self.config
        raster, windows, value = self._decoded(recording)
        label = window_mean(raster, windows, len(c.covariates) + np.arange(len(c.targets)))
        scores = decoding_scores(
            label, value, rng=generator(0, "decoding-null"), n_shuffles=c.n_shuffles
        )
        return say_undefined(scores, recording, "too few windows with a label, or it never changes")

    def save(self, path: Path) -> None:
        """Write ``config.json`` and ``weights.npz`` into a folder that exists."""
        if not hasattr(self, "_learned"):
            raise NotFittedError("decoders: nothing to save before fit")
        (path / "config.json").write_text(
            json.dumps({"key": self._scale.key, "config": self.config.model_dump()}, indent=1)
        )
        arrays = {n: v for n, v in vars(self._scale).items() if n != "key"}
        arrays["unit"] = plain_names(self._scale.unit)
        kept: dict[str, Any] = {f"scale_{n}": v for n, v in arrays.items()}
        np.savez(path / "weights.npz", **kept, **self._learned)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        note = json.loads((path / "config.json").read_text())
        out = cls(**note["config"])
        with np.load(path / "weights.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        scale = {n[6:]: arrays.pop(n) for n in list(arrays) if n.startswith("scale_")}
        out._scale, out._learned = Scale(key=note["key"], **scale), arrays
        return out
