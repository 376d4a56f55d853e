"""Latents of neural activity and what is read out of them: the baselines beside the MM-GPVAE.

They differ in how latents are found from the units that are seen. What follows is the same for
all: units that are held out, behaviour, and neural activity from behaviour.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from neuropipe.baselines.config import PairedConfig
from neuropipe.baselines.readouts import (
    Readout,
    best_weight_sd,
    fold_of_bins,
    linear_readout,
    poisson_readout,
    ridge_errors,
    smooth,
)
from neuropipe.batching.held_units import groups_of
from neuropipe.batching.paired import Paired, channel_scaling, column_scaling, read_known
from neuropipe.errors import DataError
from neuropipe.metrics import mean_r2, rate_bits_per_spike
from neuropipe.schema import Recording, Var

log = logging.getLogger(__name__)

MOST_CHANNELS = 20  # of behaviour, that features are made of; more are reduced to so many PCs
BEHAVIOR_BINS = (0.0, 3.0)  # sds that behaviour's filter is chosen from
LATENT_BINS = (0.0, 3.0, 8.0, 20.0)  # same, of latents that behaviour is read from
MOST_CROSSED = 10  # channels whose products with each other are features

WRITES: dict[str, Var] = {
    "latent": Var(("time", "latent"), "1", "f", "latents, from neural activity"),
    "rate": Var(("time", "unit"), "Hz", "f", "rate, from the latents", optional=True),
    "trace": Var(("time", "unit"), "1", "f", "trace, from the latents", optional=True),
    "behavior": Var(
        ("time", "channel"), "", "f", "behaviour, from the latents, unit by channel", optional=True
    ),
}
LEARNS: dict[str, Var] = {
    "neural_loading": Var(("unit", "latent"), "1", "f", "change of a unit by a latent"),
    "behavior_loading": Var(
        ("channel", "latent"), "", "f", "change of a channel, in its unit", optional=True
    ),
    "dimension_score": Var(
        ("dimension",), "1", "f", "left-out error of numbers of latents", optional=True
    ),
}


class Encoder(Protocol):
    """How latents are found; a frozen dataclass of arrays."""

    def __call__(self, blocks: Sequence[np.ndarray], seen: np.ndarray) -> np.ndarray:
        """Return latents (bin, latent) of windows (bin, unit) from the units `seen` (unit,)."""


@dataclass(frozen=True)
class Door:
    """What was learned of the training data before anything else."""

    units: np.ndarray  # (unit,) names
    channels: np.ndarray  # (channel,) names
    channel_units: np.ndarray  # (channel,)
    bin_width_s: float
    counted: bool
    neural_mean: np.ndarray  # (unit,) counts a bin, or traces
    neural_sd: np.ndarray  # (unit,)
    behavior_mean: np.ndarray  # (channel,)
    behavior_sd: np.ndarray  # (channel,)
    basis: np.ndarray  # (channel, feature) from scaled channels to what features are made of
    subject: str = ""  # whose units they are


def open_door(parts: Sequence[Paired], config: PairedConfig) -> Door:
    """Learn names and scales from training windows.

    Raises
    ------
    DataError
        If no bin was recorded.
    """
    first = parts[0]
    neural = np.concatenate([b for p in parts for b in p.neural])
    if not np.isfinite(neural).any(0).all():
        raise DataError("baseline: a unit has no observed bin in the training windows")
    behavior = np.concatenate([b for p in parts for b in p.behavior])
    empty = ~np.isfinite(behavior).any(0)
    if empty.any():
        raise DataError(
            f"baseline: signal {first.channels[int(np.flatnonzero(empty)[0])]!r} has no value in "
            "the training windows; leave it out of `signals`"
        )
    mean, sd = column_scaling(neural)
    level, spread = channel_scaling(parts)
    basis = np.eye(len(level))
    if len(level) > MOST_CHANNELS:
        scaled = np.nan_to_num((behavior - level) / spread)
        basis = np.linalg.svd(scaled.T @ scaled)[0][:, :MOST_CHANNELS]
    return Door(
        np.array(first.units, dtype=str), np.array(first.channels, dtype=str),
        np.array(first.channel_units, dtype=str), first.bin_width_s,
        config.observations == "counts", mean, sd, level, spread, basis, first.subject,
    )  # fmt: skip


def through(door: Door, recording: Recording, config: PairedConfig) -> Paired:
    """Read a recording as the training data were read, with the units that are modelled."""
    return read_known(recording, door, neural=config.observations, signals=config.signals)


def behavior_features(
    door: Door, behavior: Sequence[np.ndarray], degree: int, smoothing_bins: float
) -> np.ndarray:
    """Return inputs (bin, feature) of regressions on windows of behaviour (bin, channel).

    Scaled channels, filtered within each window, zero where missing, and with `degree` 2 their
    squares and, of few channels, products, so that a Poisson regression holds place fields.
    """
    whole = np.concatenate([smooth(block, smoothing_bins) for block in behavior])
    x = np.nan_to_num((whole - door.behavior_mean) / door.behavior_sd) @ door.basis
    if degree < 2 or not x.shape[1]:
        return np.asarray(x)
    i, j = np.triu_indices(x.shape[1])
    if x.shape[1] > MOST_CROSSED:
        i = j = np.arange(x.shape[1])
    return np.concatenate([x, x[:, i] * x[:, j]], 1)


def filtered(latents: np.ndarray, blocks: Sequence[np.ndarray], sd_bins: float) -> np.ndarray:
    """Return latents (bin, latent) filtered within windows as long as `blocks`."""
    edges = np.cumsum([len(b) for b in blocks])[:-1]
    return np.concatenate([smooth(part, sd_bins) for part in np.split(latents, edges)])


def _best_features(
    door: Door, behavior: Sequence[np.ndarray], y: np.ndarray, fold: np.ndarray, most: int
) -> tuple[int, float, float]:
    """Choose degree and filter of behaviour's features, and the prior of their weights."""
    tried = []
    for sd_bins in BEHAVIOR_BINS:
        for degree in range(1, most + 1):
            x = behavior_features(door, behavior, degree, sd_bins)
            weight_sd, value = best_weight_sd(x, y, fold)
            tried.append((value, -degree, -sd_bins, weight_sd))
    _, degree, sd_bins, weight_sd = max(tried)
    return -degree, -sd_bins, weight_sd


@dataclass(frozen=True)
class Coupled:
    """Latents and all their read-outs.

    Attributes
    ----------
    door : Door
    encoder : Encoder
    degree : int
        Of behaviour's features.
    behavior_bins : float
        Sd of their filter.
    latent_bins : float
        Sd of the filter of latents that behaviour is read from.
    by_latents : bool
        Whether neural activity follows from behaviour through the latents.
    neural : Readout
        Units from latents of all units.
    left_out : tuple of Readout
        Units of each held-out group, from latents of the others.
    behavior, reverse : Readout or None
        Channels from latents; units, or latents, from behaviour's features.
    """

    door: Door
    encoder: Encoder
    degree: int
    behavior_bins: float
    latent_bins: float
    by_latents: bool
    neural: Readout
    left_out: tuple[Readout, ...]
    behavior: Readout | None
    reverse: Readout | None

    @classmethod
    def fit(
        cls, encoder: Encoder, parts: Sequence[Paired], door: Door, *, degree: int, linear: bool
    ) -> Coupled:
        """Fit all read-outs on training windows.

        Parameters
        ----------
        encoder : Encoder
        parts : sequence of Paired
        door : Door
        degree : int
            Of behaviour's features; for Poisson regressions at most.
        linear : bool
            Counts by ridge, and from behaviour through the latents; else by Poisson regression.
        """
        neural = [b for p in parts for b in p.neural]
        moved = [b for p in parts for b in p.behavior]
        data = np.concatenate(neural)
        fold = fold_of_bins([len(b) for b in neural])

        poisson = door.counted and not linear
        everyone = np.ones(len(door.units), bool)
        latents = encoder(neural, everyone)
        weight_sd = best_weight_sd(latents, data, fold)[0] if poisson else 1.0

        def readout(x: np.ndarray, y: np.ndarray) -> Readout:
            if poisson:
                return poisson_readout(x, y, weight_sd)
            return linear_readout(x, y, fold, counts=door.counted)

        own = readout(latents, data)
        left_out = [
            readout(encoder(neural, ~held), data[:, held]) for held in groups_of(len(door.units))
        ]
        back, reverse, sd_bins, latent_bins = None, None, 0.0, 0.0
        if len(door.channels):
            aims = np.concatenate(moved)
            errors = [
                ridge_errors(filtered(latents, moved, sd), aims, fold).min() for sd in LATENT_BINS
            ]
            latent_bins = LATENT_BINS[int(np.argmin(errors))]
            back = linear_readout(filtered(latents, moved, latent_bins), aims, fold)
            if poisson:
                degree, sd_bins, weight_sd = _best_features(door, moved, data, fold, degree)
            features = behavior_features(door, moved, degree, sd_bins)
            reverse = linear_readout(features, latents, fold) if linear else readout(features, data)
        return cls(
            door, encoder, degree, sd_bins, latent_bins, linear, own, tuple(left_out), back, reverse
        )

    def estimates(self, windows: Paired) -> xr.Dataset:
        """Return latents and what they imply for units and channels, window by window."""
        door = self.door
        latents = self.encoder(windows.neural, np.ones(len(door.units), bool))
        one, none = {"units": "1"}, {"units": ""}
        found = self.neural(latents)
        name, units = ("rate", "Hz") if door.counted else ("trace", "1")
        found = found / door.bin_width_s if door.counted else found
        variables: dict[str, Any] = {
            "latent": (("time", "latent"), latents, one),
            name: (("time", "unit"), found, {"units": units}),
        }
        number = np.repeat(np.arange(len(windows.time)), [len(t) for t in windows.time])
        coords: dict[str, Any] = {
            "time": ("time", np.concatenate(windows.time), {"units": "s"}),
            "window": ("time", number, one),
            "unit": ("unit", door.units.astype(object), none),
            "kind": ("latent", np.array(["neural"] * latents.shape[1], dtype=object), none),
        }
        if self.behavior is not None:
            x = filtered(latents, windows.neural, self.latent_bins)
            variables["behavior"] = (("time", "channel"), self.behavior(x), none)
            coords["channel"] = ("channel", door.channels.astype(object), none)
            coords["channel_unit"] = ("channel", door.channel_units.astype(object), none)
        return xr.Dataset(variables, coords)

    def scores(self, windows: Paired) -> dict[str, float]:
        """Return how well held-out units and each modality are told from the rest."""
        door = self.door
        data, behavior = np.concatenate(windows.neural), np.concatenate(windows.behavior)
        bits = "bits_per_spike" if door.counted else "r2"
        score = rate_bits_per_spike if door.counted else mean_r2
        found = np.zeros_like(data)
        groups = groups_of(len(door.units))
        for held, readout in zip(groups, self.left_out, strict=True):
            found[:, held] = readout(self.encoder(windows.neural, ~held))
        value = score(found, data, door.neural_mean) if groups else float("nan")
        out = {f"co_smoothing_{bits}": value}
        if self.behavior is not None and self.reverse is not None:
            everyone = np.ones(len(door.units), bool)
            latents = self.encoder(windows.neural, everyone)
            by_neural = self.behavior(filtered(latents, windows.neural, self.latent_bins))
            out["behavior_from_neural_r2"] = mean_r2(by_neural, behavior, door.behavior_mean)
            x = behavior_features(door, windows.behavior, self.degree, self.behavior_bins)
            by_behavior = self.reverse(x)
            if self.by_latents:
                by_behavior = self.neural(by_behavior)
            out[f"neural_from_behavior_{bits}"] = score(by_behavior, data, door.neural_mean)
        return out

    def labelled(self, **more: Any) -> xr.Dataset:
        """Return loadings as labelled arrays; `more` are further variables."""
        one, none = {"units": "1"}, {"units": ""}
        variables = {"neural_loading": (("unit", "latent"), self.neural.by_input(), one), **more}
        coords: dict[str, Any] = {"unit": ("unit", self.door.units.astype(object), none)}
        n_latents = self.neural.weight.shape[1]
        coords["kind"] = ("latent", np.array(["neural"] * n_latents, dtype=object), none)
        if self.behavior is not None:
            variables["behavior_loading"] = (
                ("channel", "latent"), self.behavior.by_input(), none,
            )  # fmt: skip
            coords["channel"] = ("channel", self.door.channels.astype(object), none)
            coords["channel_unit"] = ("channel", self.door.channel_units.astype(object), none)
        return xr.Dataset(variables, coords, {"bin_width_s": self.door.bin_width_s})

    def save(self, path: Path, config: PairedConfig, **more: np.ndarray) -> None:
        """Write ``config.json`` and ``weights.npz`` into a folder that exists."""
        (path / "config.json").write_text(config.model_dump_json(indent=1))
        arrays: dict[str, Any] = {
            "degree": self.degree, "behavior_bins": self.behavior_bins,
            "latent_bins": self.latent_bins,
            "by_latents": self.by_latents, **more,
        }  # fmt: skip
        readouts = {"neural": self.neural, "behavior": self.behavior, "reverse": self.reverse}
        readouts |= {f"left_{k}": r for k, r in enumerate(self.left_out)}
        held = {"door": self.door, "encoder": self.encoder, **readouts}
        for name, part in held.items():
            arrays |= {f"{name}.{k}": v for k, v in vars(part).items()} if part is not None else {}
        np.savez(path / "weights.npz", **arrays)

    @classmethod
    def load(
        cls, path: Path, encoder: Any
    ) -> tuple[Coupled, str, Mapping[str, np.ndarray]]:  # fmt: skip
        """Read it back; `encoder` is its class. Also the configuration and all arrays."""
        with np.load(path / "weights.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}

        def part(kind: Any, name: str) -> Any:
            names = [f.name for f in fields(kind)]
            if f"{name}.{names[0]}" not in arrays:
                return None
            values = {n: arrays[f"{name}.{n}"] for n in names if f"{name}.{n}" in arrays}
            return kind(**{k: v.item() if v.ndim == 0 else v for k, v in values.items()})

        left_out: list[Readout] = []
        while (one := part(Readout, f"left_{len(left_out)}")) is not None:
            left_out.append(one)
        out = cls(
            part(Door, "door"), part(encoder, "encoder"), int(arrays["degree"]),
            float(arrays["behavior_bins"]), float(arrays["latent_bins"]),
            bool(arrays["by_latents"]), part(Readout, "neural"), tuple(left_out),
            part(Readout, "behavior"), part(Readout, "reverse"),
        )  # fmt: skip
        return out, (path / "config.json").read_text(), arrays
