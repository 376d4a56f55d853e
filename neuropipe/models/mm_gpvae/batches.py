"""The MM-GPVAE's door: windows of recordings in, padded pieces of tensors out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropipe.batching.paired import Paired, channel_scaling
from neuropipe.errors import DataError
from neuropipe.models.mm_gpvae.config import Config
from neuropipe.models.mm_gpvae.model import Start
from neuropipe.models.mm_gpvae.starts import effective_share, length_scale
from neuropipe.runtime import generator
from neuropipe.training.processes import share


@dataclass(frozen=True)
class Scaling:
    """What the door learned from the training windows, and applies to all others.

    Attributes
    ----------
    units, channels, channel_units : tuple of str
    bin_width_s : float
    family : str
        Of the neural likelihood.
    neural_mean, neural_sd : (unit,)
        Of the training data as they are.
    behavior_mean : (channel,)
        Of the training data, in their own units.
    shift, scale : (channel,)
        The model sees (behaviour - shift) / scale.
    subject : str
        Whose units they are.
    """

    units: tuple[str, ...]
    channels: tuple[str, ...]
    channel_units: tuple[str, ...]
    bin_width_s: float
    family: str
    neural_mean: np.ndarray
    neural_sd: np.ndarray
    behavior_mean: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    subject: str = ""

    @property
    def counted(self) -> bool:
        """Whether the neural data are modelled as counts."""
        return self.family != "gaussian"


class Piece(NamedTuple):
    """A stretch of one window, and which of its bins are wanted."""

    window: int
    start: int
    stop: int
    first: int
    last: int


def fit_scaling(parts: Sequence[Paired], config: Config) -> Scaling:
    """Learn means and sds from the training windows.

    Raises
    ------
    DataError
        If a unit or channel has no value at all, or no channel ever changes.
    """
    first = parts[0]
    family = config.neural_likelihood
    if family == "auto":
        family = "poisson" if config.observations == "counts" else "gaussian"
    neural = np.concatenate([b for p in parts for b in p.neural])
    seen = np.isfinite(neural)
    if not seen.any(0).all():
        lost = first.units[int(np.flatnonzero(~seen.any(0))[0])]
        raise DataError(f"mm_gpvae: unit {lost!r} has no value in the training windows")
    number = seen.sum(0)
    mean = np.where(seen, neural, 0.0).sum(0) / number
    sd = np.sqrt((np.where(seen, neural - mean, 0.0) ** 2).sum(0) / number)
    if family != "gaussian" and (np.where(seen, neural, 0.0) < 0).any():
        raise DataError(
            f"mm_gpvae: {config.observations} holds negative values; counts have none, say "
            "neural_likelihood: gaussian"
        )
    if family == "gaussian" and (sd <= 1e-12 * np.abs(mean)).any():
        still = first.units[int(np.flatnonzero(sd <= 1e-12 * np.abs(mean))[0])]
        raise DataError(
            f"mm_gpvae: unit {still!r} never changes in the training windows; leave it out"
        )
    own_mean, shift, scale = _behavior_scaling(parts, config)
    return Scaling(
        first.units, first.channels, first.channel_units, first.bin_width_s, family, mean, sd,
        own_mean, shift, scale, first.subject,
    )  # fmt: skip


def _behavior_scaling(
    parts: Sequence[Paired], config: Config
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, sd = channel_scaling(parts)
    n = len(mean)
    if n == 0:
        return mean, mean, sd
    block = np.concatenate([b for p in parts for b in p.behavior])
    empty = ~np.isfinite(block).any(0)
    if empty.any():
        raise DataError(
            f"mm_gpvae: signal {parts[0].channels[int(np.flatnonzero(empty)[0])]!r} has no value "
            "in the training windows; leave it out of `signals`"
        )
    spread = np.sqrt(np.nanmean((block - mean) ** 2))
    if not spread > 1e-12 * max(float(np.abs(mean).max()), 1e-30):
        raise DataError("mm_gpvae: no signal of behaviour ever changes in the training windows")
    how = config.behavior_scaling
    if config.behavior_likelihood != "gaussian":
        if np.nanmin(block) < 0:
            raise DataError(
                "mm_gpvae: behaviour holds negative values; counts have none, say "
                "behavior_likelihood: gaussian"
            )
        how = "none"
    if how == "auto":
        how = "channel" if config.image_shape is None else "common"
    if how == "none":
        return mean, np.zeros(n), np.ones(n)
    return mean, mean, sd if how == "channel" else np.full(n, spread)


def starting(parts: Sequence[Paired], scaling: Scaling, config: Config, n_bins: int) -> Start:
    """Return what the network begins from, all of it from training windows."""
    s, n, b = config.candidates[0]
    behavior = [(x - scaling.shift) / scaling.scale for p in parts for x in p.behavior]
    weight = config.behavior_weight
    if weight == "effective":
        many = scaling.channels and not config.noise_rank
        weight = effective_share(behavior) if many else 1.0
    if config.length_scale_bins == "auto":
        root = np.sqrt if scaling.counted else np.asarray
        with warnings.catch_warnings():  # means of what is nowhere seen
            warnings.simplefilter("ignore", RuntimeWarning)
            found = [
                length_scale([root(x) for p in parts for x in p.neural], max(s + n, 1)),
                length_scale(behavior, max(s + b, 1)) if scaling.channels else np.nan,
            ]
        known = [x for x in found if np.isfinite(x)] or [1.0]
        neural, behavioral = (x if np.isfinite(x) else known[0] for x in found)
        # of both, since a short start can grow while pruning sets a floor to a long one
        lengths = (float(min(known)), float(neural), float(behavioral))
    else:
        one = float(config.length_scale_bins)
        lengths = (one, one, one)
    mean = scaling.neural_mean if scaling.counted else np.zeros(len(scaling.units))
    sd = np.sqrt(scaling.neural_mean) if scaling.counted else np.ones(len(scaling.units))
    if config.modalities == "behavior":
        mean = sd = np.zeros(0)
    return Start(
        n_bins, lengths, tuple(map(float, mean)), tuple(map(float, sd)),
        len(scaling.channels), scaling.family, float(weight),
    )  # fmt: skip


def cut(lengths: Sequence[int], most: int) -> list[Piece]:
    """Cut windows into pieces of nearly equal length, none above `most` bins."""
    out = []
    for window, length in enumerate(lengths):
        edges = np.linspace(0, length, -(-length // most) + 1).round().astype(int)
        out += [
            Piece(window, a, b, 0, b - a)
            for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        ]
    return out


def cut_with_margins(lengths: Sequence[int], most: int, margin: int) -> list[Piece]:
    """Cut windows into pieces of at most `most` bins that look `margin` bins beyond what they keep.

    A latent's posterior depends on data a few length scales away only, so margins of some length
    scales make the pieces' middles equal to those of the whole window.
    """
    margin = min(margin, (most - 1) // 3)
    out = []
    for window, length in enumerate(lengths):
        if length <= most:
            out.append(Piece(window, 0, length, 0, length))
            continue
        for inner in cut([length], most - 2 * margin):
            start, stop = max(0, inner.start - margin), min(length, inner.stop + margin)
            out.append(Piece(window, start, stop, inner.start - start, inner.stop - start))
    return out


def tensors(
    windows: Paired, pieces: Sequence[Piece], scaling: Scaling, device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Tensor]:  # fmt: skip
    """Return pieces padded to the longest one: data, what is seen of them, and their bins.

    Returns
    -------
    dict
        ``neural`` (piece, bin, unit), ``behavior`` (piece, bin, channel), ``neural_seen`` and
        ``behavior_seen`` of the same shapes, bool, and ``n_bins`` (piece,). Missing values are 0.
    """
    longest = max(p.stop - p.start for p in pieces)
    out: dict[str, Tensor] = {}
    shift, scale = scaling.neural_mean, scaling.neural_sd
    if scaling.counted:
        shift, scale = np.zeros_like(shift), np.ones_like(scale)
    named = (
        ("neural", windows.neural, shift, scale),
        ("behavior", windows.behavior, scaling.shift, scaling.scale),
    )
    for name, blocks, shift, scale in named:
        data = np.full((len(pieces), longest, len(shift)), np.nan)
        for row, p in enumerate(pieces):
            data[row, : p.stop - p.start] = (blocks[p.window][p.start : p.stop] - shift) / scale
        seen = np.isfinite(data)
        out[name] = torch.as_tensor(np.where(seen, data, 0.0), dtype=dtype, device=device)
        out[f"{name}_seen"] = torch.as_tensor(seen, device=device)
    length = [p.stop - p.start for p in pieces]
    out["n_bins"] = torch.as_tensor(length, dtype=dtype, device=device)
    return out


def joined(batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the pieces of several recordings as one batch, padded alike."""
    longest = max(b["neural"].shape[1] for b in batches)
    out = {}
    for name in batches[0]:
        parts = []
        for batch in batches:
            x = batch[name]
            lack = longest - x.shape[1] if x.ndim > 1 else 0
            parts.append(torch.nn.functional.pad(x, (0, 0, 0, lack)) if lack else x)
        out[name] = torch.cat(parts)
    return out


def in_dtype(data: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a batch with its numbers in a dtype; what is seen stays as it is."""
    return {k: x if x.dtype == torch.bool else x.to(dtype) for k, x in data.items()}


def shuffled(
    data: Mapping[str, Tensor], size: int, seed: int, stream: str
) -> tuple[Callable[[int], Iterable[Mapping[str, Tensor]]], int]:
    """Return the batches of an epoch as a function of its number, and how many there are.

    A batch takes an eighth of the pieces at most, so that few pieces still make some steps.
    """
    n = len(data["n_bins"])
    number = max(min(n, 8), round(n / size))

    def batches(epoch: int) -> Iterable[Mapping[str, Tensor]]:
        order = generator(seed, f"{stream}-{epoch}").permutation(n)
        for rows in np.array_split(order, number):
            at = torch.as_tensor(share(rows), device=data["n_bins"].device)
            yield {name: x[at] for name, x in data.items()}

    return batches, number
