"""Sessions drawn from the network: from the recorded past, or from its own."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropipe.batching.raster import Raster
from neuropipe.batching.tokens import Windows, cut_windows
from neuropipe.models.neuroformer.batches import make_batch
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.decoding import Drawn, Sampler, draw
from neuropipe.models.neuroformer.embedding import START
from neuropipe.models.neuroformer.model import Network
from neuropipe.models.neuroformer.scaling import Scaling
from neuropipe.runtime import generator

log = logging.getLogger(__name__)

CONDITIONS = ("frame", "frame_lag", "frame_seen", "covariate", "covariate_seen")
PAST = ("past_unit", "past_lag", "past_place", "past_mask", "past_flat")


class Spikes(NamedTuple):
    """Drawn spikes of several samples, ordered by sample, bin and unit.

    Attributes
    ----------
    sample, bin, unit : (spike,) int64
        Bins are those of the raster.
    """

    sample: np.ndarray
    bin: np.ndarray
    unit: np.ndarray

    def counts(self, n_samples: int, n_bins: int, n_units: int) -> np.ndarray:
        """Return counts (sample, bin, unit)."""
        out = np.zeros((n_samples, n_bins, n_units), dtype=np.int32)
        np.add.at(out, (self.sample, self.bin, self.unit), 1)
        return out


def past_of(
    bins: Tensor, units: Tensor, past: Tensor, history_bins: int, first_unit: Tensor
) -> dict[str, Tensor]:
    """Return the past stream of windows whose earlier spikes were drawn.

    Parameters
    ----------
    bins : (window, spike)
        Bins from the start of the window, below zero; anything else is no spike.
    units : (window, spike)
        By their place in the session.
    past : (window,)
        Bins of past that there are.
    history_bins : int
    first_unit : ()
        Number of the session's first unit.

    Returns
    -------
    dict
        ``past_unit``, ``past_lag``, ``past_place``, ``past_mask`` and ``past_flat``, as a batch
        has them.
    """
    kept = (bins < 0) & (bins >= -past[:, None])
    n_units = int(units.max()) + 1 if units.numel() else 1
    # as in a recording: by bin, then by unit; what is no spike comes last
    rank = torch.where(kept, bins * n_units + units, 2**40)
    order = rank.argsort(dim=1, stable=True)
    kept, bins, units = (x.gather(1, order) for x in (kept, bins, units))
    length = kept.sum(1) + 1
    longest = int(length.max())
    mask = torch.arange(longest, device=bins.device) < length[:, None]
    opens = torch.ones_like(length[:, None])
    lag = torch.cat([(history_bins + 1 + past)[:, None], -bins[:, : longest - 1]], 1)
    unit = torch.cat([opens * START, units[:, : longest - 1] + 1 + first_unit], 1)
    place = length[:, None] - 1 - torch.arange(longest, device=bins.device)
    flat = mask.flatten().nonzero()[:, 0]
    return {
        "past_unit": unit.flatten()[flat], "past_lag": lag.flatten()[flat],
        "past_place": place.flatten()[flat], "past_mask": mask, "past_flat": flat,
    }  # fmt: skip


class _Source:
    """Conditions and random numbers of windows that are being drawn."""

    def __init__(
        self,
        network: Network,
        raster: Raster,
        scaling: Scaling,
        config: Config,
        n_samples: int,
        room: int,
        seed: int,
    ) -> None:
        self.network, self.raster, self.scaling, self.config = network, raster, scaling, config
        self.n_samples, self.room, self.seed = n_samples, room, seed
        self.device = next(network.parameters()).device
        self.sampler = Sampler(
            network, room, temperature=config.temperature, top_p=config.top_p
        )  # fmt: skip

    def conditions(self, windows: Windows) -> dict[str, Tensor]:
        """Return what does not depend on spikes, every window for all samples in turn."""
        batch = make_batch(self.raster, windows, self.scaling, self.config, self.device)
        out = {n: batch[n].repeat_interleave(self.n_samples, 0) for n in CONDITIONS if n in batch}
        size = torch.as_tensor(windows.size).to(self.device)
        out["window_size"] = size.repeat_interleave(self.n_samples)
        out["units"] = batch["units"]
        return out

    def uniform(self, n_windows: int, name: str) -> Tensor:
        """Return random numbers (step, window and sample, 2), the same ones on every device."""
        rng = generator(self.seed, name)
        value = rng.random((self.room, n_windows * self.n_samples, 2))
        return torch.as_tensor(value).to(self.device)


def teacher_forced(
    network: Network,
    raster: Raster,
    scaling: Scaling,
    config: Config,
    *,
    n_samples: int,
    room: int,
    seed: int,
) -> Spikes:
    """Draw every window given its recorded past.

    Parameters
    ----------
    network : Network
        In evaluation mode.
    raster : Raster
    scaling, config
        Of the door.
    n_samples : int
        Draws of each window.
    room : int
        Most spikes of a window; one that needs more is cut, with a warning.
    seed : int
    """
    source = _Source(network, raster, scaling, config, n_samples, room, seed)
    windows = cut_windows(raster, config.window_bins, config.history_bins)
    size = max(512 // n_samples, 1)
    parts, cut = [], 0
    for start in range(0, len(windows), size):
        part = windows.take(np.arange(start, min(start + size, len(windows))))
        # packed rows cannot be repeated, so each window is packed anew for every sample
        again = part.take(np.repeat(np.arange(len(part)), n_samples))
        past = make_batch(raster, again, scaling, config, source.device)
        batch = {**source.conditions(part), **{n: past[n] for n in PAST}}
        drawn = draw(source.sampler, batch, source.uniform(len(part), f"window-{start}"))
        parts.append(_placed(drawn, again.start, n_samples, config.window_bins))
        cut += int(drawn.cut.sum())
    return _joined(parts, cut)


def free_running(
    network: Network,
    raster: Raster,
    scaling: Scaling,
    config: Config,
    *,
    n_samples: int,
    room: int,
    seed: int,
    max_windows: int | None = None,
) -> Spikes:
    """Draw every stretch from its beginning, each window given the drawn ones before.

    Parameters
    ----------
    network, raster, scaling, config, n_samples, room, seed
        As of `teacher_forced`; of the raster only times, stimulus and covariates matter.
    max_windows : int, optional
        Windows of each stretch, at most.

    Notes
    -----
    Stretches and samples run side by side, windows one after the other. No recorded spike is
    looked at: a stretch begins with the past unknown, as in training.
    """
    source = _Source(network, raster, scaling, config, n_samples, room, seed)
    windows = cut_windows(raster, config.window_bins, config.history_bins)
    starts = np.searchsorted(windows.first, raster.first)
    number = np.diff([*starts, len(windows)])
    if max_windows is not None:
        number = np.minimum(number, max_windows)
    order = np.argsort(-number, kind="stable")
    starts, number = starts[order], number[order]
    w, h = config.window_bins, config.history_bins
    first_unit = torch.tensor(scaling.first[raster.key], device=source.device)
    n_kept = -(-h // w)
    recent: list[Drawn] = []
    parts, cut = [], 0
    for k in range(int(number.max(initial=0))):
        active = int((number > k).sum())
        here = windows.take(starts[:active] + k)
        rows = active * n_samples
        recent = [Drawn(*(x[:rows] for x in d)) for d in recent[-n_kept:]]
        shift = [w * (i - len(recent)) for i in range(len(recent))]
        empty = torch.zeros(rows, 0, dtype=torch.int64, device=source.device)
        bins = [torch.where(d.bin < w, d.bin + s, 1) for d, s in zip(recent, shift, strict=True)]
        past = torch.as_tensor(here.past).to(source.device).repeat_interleave(n_samples)
        batch = {
            **source.conditions(here),
            **past_of(
                torch.cat([empty, *bins], 1), torch.cat([empty, *(d.unit for d in recent)], 1),
                past, h, first_unit,
            ),
        }  # fmt: skip
        drawn = draw(source.sampler, batch, source.uniform(active, f"window-{k}"))
        recent.append(drawn)
        parts.append(_placed(drawn, np.repeat(here.start, n_samples), n_samples, w))
        cut += int(drawn.cut.sum())
    return _joined(parts, cut)


def _placed(drawn: Drawn, start: np.ndarray, n_samples: int, window_bins: int) -> Spikes:
    """Return the spikes of drawn windows, samples in turn, on the raster's bins."""
    bins, units = drawn.bin.cpu().numpy(), drawn.unit.cpu().numpy()
    row, at = np.nonzero(bins < window_bins)
    return Spikes(row % n_samples, start[row] + bins[row, at], units[row, at])


def _joined(parts: list[Spikes], cut: int) -> Spikes:
    if cut:
        log.warning(
            "neuroformer: %d drawn windows had not ended when they were full; they are cut there",
            cut,
        )
    whole = Spikes(*(np.concatenate(x) for x in zip(*parts, strict=True)))
    order = np.lexsort([whole.unit, whole.bin, whole.sample])
    return Spikes(*(x[order] for x in whole))
