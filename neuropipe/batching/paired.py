"""Neural activity and behaviour of the same bins, window by window.

The MM-GPVAE and its baselines read through this one door, so they see the same units, the same
channels and the same bins.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import xarray as xr

from neuropipe.batching.refusals import (
    refuse_bins,
    refuse_counts,
    refuse_stranger,
    refuse_twice,
)
from neuropipe.batching.sequences import Source, in_order, units_of
from neuropipe.batching.windows import unbroken, window_edges, window_slices
from neuropipe.errors import DataError
from neuropipe.latents import column_suffixes
from neuropipe.registry import hint
from neuropipe.schema import Recording, validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Paired:
    """The windows of one recording, in order of time.

    Attributes
    ----------
    time : list of (bin,), s
        As the recording has it: centres of bins for counts.
    neural : list of (bin, unit), float64
        Counts a bin, or traces; NaN where the bin is missing.
    behavior : list of (bin, channel), float64
        In the channels' own units; NaN where missing.
    units : tuple of str
        Names of the units.
    channels : tuple of str
        Names of the channels; a signal of several dimensions gives one channel a column.
    channel_units : tuple of str
    bin_width_s : float
    subject, session : str
    """

    time: list[np.ndarray]
    neural: list[np.ndarray]
    behavior: list[np.ndarray]
    units: tuple[str, ...]
    channels: tuple[str, ...]
    channel_units: tuple[str, ...]
    bin_width_s: float
    subject: str = ""
    session: str = ""

    def only(self, units: Sequence[str]) -> Paired:
        """Return the windows with these units, in this order.

        Raises
        ------
        DataError
            If one is not there.
        """
        place = {unit: n for n, unit in enumerate(self.units)}
        lost = [unit for unit in units if unit not in place]
        if lost:
            raise DataError(
                f"paired: units {', '.join(lost)} of the training data are absent; sessions that "
                f"are fitted together must share their units; found {', '.join(self.units)}"
            )
        at = [place[unit] for unit in units]
        return replace(self, neural=[block[:, at] for block in self.neural], units=tuple(units))


def read_paired(
    recording: Recording,
    *,
    neural: str = "counts",
    signals: Sequence[str] | Literal["all"] = "all",
) -> Paired:
    """Read what lies in a recording's windows, and nothing outside of them.

    Parameters
    ----------
    recording : DataTree
        Prepared, with node ``windows`` (else its trials, else the whole is one window).
    neural : str
        ``counts``, or a node of traces such as ``calcium/cells``.
    signals : sequence of str or ``"all"``
        Variables of node `behavior`, under ``"all"`` in the order of their names; a recording
        without that node has no channels then.

    Raises
    ------
    SchemaError
        If a node is missing or not as the catalogue says; counts are whole numbers, and a bin of
        them that was not recorded is marked in ``observed``.
    DataError
        If a signal is unknown, not numeric or on another clock, or no window holds a bin.
    """
    validate(recording, neural)
    session = str(recording.attrs.get("session", ""))
    node = recording[neural].to_dataset()
    array = _matrix(node, neural)
    time = np.asarray(node["time"].values, dtype=float)
    names = node[array.dims[1]].values if array.dims[1] in node.coords else range(array.shape[1])
    values, channels, channel_units = behavior_columns(recording, signals, time, session)
    observed = node["observed"].values if "observed" in node else np.ones(len(time), bool)
    counted = np.asarray(array.values)
    refuse_twice(names, f"paired: session {session}: {array.dims[1]}")
    windows = window_slices(time, window_edges(recording, time), session)
    parts = [part for _, part in unbroken(time, windows)]
    width = array.attrs.get("bin_width_s", np.median(np.diff(time)) if len(time) > 1 else np.nan)
    for part in parts if neural == "counts" else ():
        what = f"paired: session {session}: counts/{array.name}"
        refuse_counts(counted[part][observed[part]], float(width), what)
    return Paired(
        [time[part] for part in parts],
        [np.where(observed[part, None], counted[part].astype(float), np.nan) for part in parts],
        [values[part] for part in parts],
        tuple(map(str, names)), channels, channel_units, float(width),
        str(recording.attrs.get("subject", "")), session,
    )  # fmt: skip


class Known(Protocol):
    """What a model keeps of its training data to read others likewise."""

    @property
    def units(self) -> Sequence[str] | np.ndarray:
        """Names of the units."""

    @property
    def channels(self) -> Sequence[str] | np.ndarray:
        """Names of the channels."""

    @property
    def channel_units(self) -> Sequence[str] | np.ndarray:
        """What the channels are in."""

    @property
    def bin_width_s(self) -> float:
        """Width of the bins."""

    @property
    def subject(self) -> str:
        """Whose units they are."""


def read_known(
    recording: Recording,
    known: Known,
    *,
    neural: str = "counts",
    signals: Sequence[str] | Literal["all"] = "all",
) -> Paired:
    """Read a recording as the training data were read; as of `read_paired`, with their units.

    Raises
    ------
    DataError
        If subject, units, signals, what the signals are in or the bins differ from those of the
        training data.
    """
    found = read_paired(recording, neural=neural, signals=signals)
    refuse_stranger(found.subject, known.subject, found.session)
    refuse_bins(found.bin_width_s, known.bin_width_s, found.session)
    _same_signals(found, tuple(known.channels), tuple(known.channel_units))
    return found.only([str(unit) for unit in known.units])


def _same_signals(found: Paired, channels: tuple[str, ...], units: tuple[str, ...]) -> None:
    """Refuse signals of other names than the others', or in other units."""
    if found.channels != channels:
        raise DataError(
            f"paired: session {found.session} has the signals "
            f"{', '.join(found.channels) or 'none'}, others {', '.join(channels) or 'none'}; "
            "sessions that are fitted or scored together must share their signals; name them in "
            "`signals`"
        )
    for name, own, other in zip(channels, found.channel_units, units, strict=True):
        if own != other:
            raise DataError(
                f"paired: session {found.session} has the signal {name!r} in {own!r}, others in "
                f"{other!r}; bring them to one unit"
            )


def read_training(
    recordings: Sequence[Recording],
    *,
    neural: str = "counts",
    signals: Sequence[str] | Literal["all"] = "all",
    min_spikes: int = 1,
) -> list[Paired]:
    """Read the training windows of one subject's sessions, with the units that are modelled.

    Parameters
    ----------
    recordings : sequence of DataTree
        That share units and channels.
    neural, signals
        As of `read_paired`.
    min_spikes : int
        For counts: a unit with fewer in all training windows is left out. A trace that never
        changes in them is left out as well.

    Raises
    ------
    DataError
        If sessions are of several subjects, share no unit, differ in bins or channels, or too
        few spikes are left, or no trace that changes.
    """
    ordered = in_order(recordings)
    unit, _ = units_of(ordered, Source(neural, _response(ordered[0], neural)))
    parts = [read_paired(r, neural=neural, signals=signals) for r in ordered]
    for part in parts:
        _same_signals(part, parts[0].channels, parts[0].channel_units)
    parts = [part.only([str(u) for u in unit]) for part in parts]
    if neural != "counts":
        return _that_change(parts, neural)
    total = sum(np.nansum(block, 0) for part in parts for block in part.neural)
    kept = [u for u, n in zip(parts[0].units, np.asarray(total), strict=True) if n >= min_spikes]
    if not kept:
        raise DataError(
            f"paired: none of {len(unit)} units has {min_spikes} spikes in the training windows; "
            "lower min_spikes or use more data"
        )
    return [part.only(kept) for part in parts]


def _that_change(parts: list[Paired], neural: str) -> list[Paired]:
    """Leave out traces that have one and the same value in all training windows."""
    block = np.concatenate([b for part in parts for b in part.neural])
    empty = ~np.isfinite(block).any(0)
    filled = np.where(empty, 0.0, block)  # what has no value at all is the model's to refuse
    low, high = np.nanmin(filled, 0), np.nanmax(filled, 0)
    moves = empty | (high - low > 1e-12 * np.maximum(np.abs(low), np.abs(high)))
    if not moves.any():
        raise DataError(
            f"paired: none of {len(moves)} traces of {neural} changes in the training windows; "
            "check the recording, or use more data"
        )
    if moves.all():
        return parts
    units = parts[0].units
    still = [u for u, m in zip(units, moves, strict=True) if not m]
    log.info("paired: units %s never change in the training windows: left out", ", ".join(still))
    return [part.only([u for u in units if u not in still]) for part in parts]


def channel_scaling(parts: Sequence[Paired]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd of each channel over all windows, missing bins left out.

    A channel that never changes has sd 1, so that scaling leaves it at zero; one without a single
    value has mean 0.
    """
    return column_scaling(np.concatenate([b for part in parts for b in part.behavior]))


def column_scaling(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd of each column of (sample, channel); as of `channel_scaling`."""
    seen = np.isfinite(block)
    number = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, block, 0.0).sum(0) / number
    sd = np.sqrt((np.where(seen, block - mean, 0.0) ** 2).sum(0) / number)
    return mean, np.where(sd > 1e-9 * np.maximum(np.abs(mean), 1e-30), sd, 1.0)


def _response(recording: Recording, neural: str) -> str:
    validate(recording, neural)
    return str(_matrix(recording[neural].to_dataset(), neural).name)


def _matrix(node: xr.Dataset, neural: str) -> xr.DataArray:
    """Return the node's counts or traces (time, unit)."""
    found = [str(n) for n in node.data_vars if node[n].ndim == 2 and node[n].dims[0] == "time"]
    usual = [n for n in ("spike_count", "dff", "fluorescence", "region_signal") if n in found]
    if not found:
        raise DataError(f"paired: node {neural} has no variable of dims (time, unit)")
    return node[(usual or found)[0]]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts joint_2 before joint_10; a store lists its variables in any order."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def behavior_columns(
    recording: Recording, signals: Sequence[str] | Literal["all"], time: np.ndarray, session: str
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Return values (bin, channel), names and units of the wanted signals on the neural clock."""
    tree = recording.children.get("behavior")
    if tree is None or "time" not in tree.variables:
        if signals != "all" and len(signals):
            raise DataError(
                f"paired: session {session}: no node behavior for the signals "
                f"{', '.join(signals)}; add the step resample_behavior to preprocess"
            )
        return np.zeros((len(time), 0)), (), ()
    node = tree.to_dataset()
    if not np.array_equal(node["time"].values, time):
        raise DataError(
            f"paired: session {session}: node behavior is not on the clock of the neural data; add "
            "the step resample_behavior to preprocess"
        )
    wanted = sorted(map(str, node.data_vars), key=_natural) if signals == "all" else list(signals)
    columns, names, units = [np.zeros((len(time), 0))], [], []
    for name in wanted:
        if name not in node.data_vars:
            raise DataError(
                f"paired: session {session}: no signal {name!r} in node behavior"
                f"{hint(name, map(str, node.data_vars))}"
            )
        array = node[name]
        if array.dims[:1] != ("time",) or array.dtype.kind not in "fiub":
            raise DataError(
                f"paired: session {session}: signal {name!r} has dims {array.dims} and dtype "
                f"{array.dtype}, expected numbers along time; leave it out of `signals`"
            )
        value = np.asarray(array.values, dtype=float).reshape(len(time), -1)
        columns.append(np.where(np.isinf(value), np.nan, value))  # neither is a measurement
        names += [name + suffix for suffix in column_suffixes(array)]
        units += [str(array.attrs.get("units", "1"))] * columns[-1].shape[1]
    return np.concatenate(columns, 1), tuple(names), tuple(units)
