"""The Neuroformer's door: rasters in, packed batches of tensors out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from neuropipe.batching.raster import Raster
from neuropipe.batching.tokens import (
    Windows,
    around,
    cut_windows,
    frames_of,
    tokens_between,
)
from neuropipe.errors import DataError
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.padding import padded
from neuropipe.models.neuroformer.scaling import Scaling, labels_of
from neuropipe.runtime import generator
from neuropipe.training.processes import share


class Packed(TypedDict, total=False):
    """A batch of windows of one session; see `Network`. Tokens lie packed, window by window."""

    units: Tensor  # (unit,) numbers of the session's units among those of all sessions
    unit: Tensor  # (token,) row of the unit table
    bin: Tensor  # (token,) bin in the window
    last_unit: Tensor  # (token,) place among the session's units
    place: Tensor  # (token,) tokens before it
    size: Tensor  # (token,) bins of its window
    target_bin: Tensor  # (token,)
    target_unit: Tensor  # (token,)
    spike: Tensor  # (spike,) tokens that a spike follows
    mask: Tensor  # (window, position)
    flat: Tensor  # (token,)
    counted: Tensor  # (token,) of a batch of round size: False for tokens that fill it up
    past_unit: Tensor  # (past token,)
    past_lag: Tensor  # (past token,)
    past_place: Tensor  # (past token,)
    past_mask: Tensor  # (window, position)
    past_flat: Tensor  # (past token,)
    frame: Tensor  # (window, frame, y, x) scaled
    frame_lag: Tensor  # (window, frame) bins
    frame_seen: Tensor  # (window, frame) all of them where it is left out
    covariate: Tensor  # (window, bin, covariate) scaled
    covariate_seen: Tensor  # (window, bin)
    label: Tensor  # (window, target) scaled value or class


def make_batch(
    raster: Raster,
    windows: Windows,
    scaling: Scaling,
    config: Config,
    device: torch.device,
    *,
    rounded: bool = False,
) -> dict[str, Tensor]:
    """Return a packed batch of windows of one session, on the device; see `Packed`.

    One that is `rounded` has sizes that other batches have as well; see `padding`.
    """
    w, h = config.window_bins, config.history_bins
    first = scaling.first[raster.key]
    spikes = tokens_between(raster, windows.start, windows.start + windows.size)
    out: dict[str, np.ndarray] = {"units": first + np.arange(len(raster.unit))}
    # each window opens with a token of its own, and ends with the end as target
    length = spikes.length + 1
    opens = np.cumsum(length) - length
    place = np.arange(int(length.sum())) - np.repeat(opens, length)
    follows = np.ones(len(place), dtype=bool)
    follows[opens] = False  # tokens that are spikes
    ends = np.zeros(len(place), dtype=bool)
    ends[opens + length - 1] = True
    unit, bins, last = (np.zeros(len(place), dtype=np.int64) for _ in range(3))
    unit[follows] = 1 + first + spikes.unit
    bins[follows] = spikes.bin
    last[follows] = spikes.unit
    target_bin = np.full(len(place), w)
    target_unit = np.full(len(place), len(raster.unit))  # the end, of independent heads
    target_bin[~ends] = spikes.bin
    target_unit[~ends] = spikes.unit
    out.update(
        unit=unit, bin=bins, last_unit=last, place=place, size=np.repeat(windows.size, length),
        target_bin=target_bin, target_unit=target_unit, spike=np.flatnonzero(~ends),
        **_rows(length, place, ""),
    )  # fmt: skip
    past = tokens_between(raster, windows.start - windows.past, windows.start)
    past_length = past.length + 1
    opens = np.cumsum(past_length) - past_length
    past_place = np.arange(int(past_length.sum())) - np.repeat(opens, past_length)
    follows = past_place > 0
    past_unit = np.zeros(len(past_place), dtype=np.int64)
    past_lag = np.repeat(h + 1 + windows.past, past_length)
    past_unit[follows] = 1 + first + past.unit
    past_lag[follows] = np.repeat(windows.past, past.length) - past.bin
    out.update(
        past_unit=past_unit, past_lag=past_lag,
        past_place=np.repeat(past_length, past_length) - 1 - past_place,
        **_rows(past_length, past_place, "past_"),
    )  # fmt: skip
    if config.stimulus is not None:
        frame, lag = frames_of(raster, windows, config.n_frames)
        mean, sd = scaling.pixel
        pixel = raster.movie.pixel[np.maximum(frame, 0)]  # type: ignore[union-attr]
        out.update(
            frame=((pixel - mean) / sd).astype(np.float32), frame_lag=lag.astype(np.float32),
            frame_seen=frame >= 0,
        )  # fmt: skip
    if config.covariates:
        k = len(config.covariates)
        at = around(raster, windows, w, h)
        value = (raster.signal[np.maximum(at, 0), :k] - scaling.mean[:k]) / scaling.sd[:k]
        seen = (at >= 0) & np.isfinite(value).all(-1)
        out.update(
            covariate=np.where(seen[..., None], value, 0.0).astype(np.float32), covariate_seen=seen
        )
    if config.targets:
        label = labels_of(raster, windows, scaling, config)
        out["label"] = label.astype(np.float32 if config.target_kind == "regression" else np.int64)
    out = padded(out) if rounded else out
    return {k: torch.as_tensor(v).to(device, non_blocking=True) for k, v in out.items()}


def _rows(length: np.ndarray, place: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """Return where packed tokens lie in padded rows, as `attention.Rows`."""
    longest = int(length.max(initial=1))
    row = np.repeat(np.arange(len(length)), length)
    return {
        f"{name}mask": np.arange(longest) < length[:, None], f"{name}flat": row * longest + place
    }  # fmt: skip


class Loader:
    """Batches of training windows, a pure function of the epoch.

    Parameters
    ----------
    rasters : sequence of Raster
        Of the training stretches.
    scaling, config, device
        As of `make_batch`.
    seed : int
        Shuffles windows and draws offsets.
    labelled : bool
        Whether only windows with a label are of use.
    rounded : bool
        As of `make_batch`.

    Notes
    -----
    A batch is of one session. With random offsets the windows of an epoch begin at another bin of
    each stretch, so that a spike is seen at every place of a window over the epochs.
    """

    def __init__(
        self,
        rasters: Sequence[Raster],
        scaling: Scaling,
        config: Config,
        device: torch.device,
        *,
        seed: int,
        labelled: bool = False,
        rounded: bool = False,
    ) -> None:
        self.rasters, self.scaling, self.config, self.device = rasters, scaling, config, device
        self.seed, self.labelled, self.rounded = seed, labelled, rounded
        size = config.training.batch_size
        shift = config.window_bins - 1 if config.random_offsets else 0
        number = [min(len(self._windows(r, s)) for s in {0, shift}) for r in rasters]
        if min(number) == 0:
            short = rasters[number.index(0)].key
            raise DataError(
                f"neuroformer: {short}: no training window"
                f"{' with a label' if labelled else ''} is left; use longer stretches, a smaller "
                "validation_share or more labels"
            )
        self.number = [max(n // size, 1) for n in number]

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        return sum(self.number)

    def _windows(self, raster: Raster, offset: int) -> Windows:
        c = self.config
        windows = cut_windows(raster, c.window_bins, c.history_bins, offset)
        if self.labelled:
            label = labels_of(raster, windows, self.scaling, c)
            known = np.isfinite(label) & (label >= 0) if c.target_kind == "classes" else (
                np.isfinite(label)
            )  # fmt: skip
            windows = windows.take(np.flatnonzero(known.any(1)))
        return windows

    def __call__(self, epoch: int) -> Iterator[dict[str, Tensor]]:
        """Return the batches of an epoch."""
        rng = generator(self.seed, f"batches-{epoch}")
        size = self.config.training.batch_size
        plan: list[tuple[int, np.ndarray]] = []
        cut = []
        for n, raster in enumerate(self.rasters):
            offset = int(rng.integers(self.config.window_bins)) if self.config.random_offsets else 0
            cut.append(self._windows(raster, offset))
            order = rng.permutation(len(cut[-1]))
            plan += [(n, order[i * size : (i + 1) * size]) for i in range(self.number[n])]
        for k in rng.permutation(len(plan)):
            n, chosen = plan[k]
            yield make_batch(
                self.rasters[n], cut[n].take(share(chosen)), self.scaling, self.config, self.device,
                rounded=self.rounded,
            )  # fmt: skip


def in_batches(
    raster: Raster, windows: Windows, scaling: Scaling, config: Config, device: torch.device
) -> Iterator[tuple[Windows, dict[str, Tensor]]]:
    """Return all windows in order, with their batches."""
    size = max(config.training.batch_size, 256)
    for start in range(0, len(windows), size):
        part = windows.take(np.arange(start, min(start + size, len(windows))))
        yield part, make_batch(raster, part, scaling, config, device)
