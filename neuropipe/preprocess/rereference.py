"""Voltages against another reference: all are differences of channels at one moment."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import Literal

import dask.array as da
import numpy as np
import xarray as xr

from neuropipe import registry
from neuropipe.errors import DataError
from neuropipe.preprocess.voltages import Voltages, voltages
from neuropipe.schema import Recording

log = logging.getLogger(__name__)

ROWS = 2048
WHITE_MATTER = ("white matter", "wm")
# What a new channel is: the row of its own channel, and the rows whose mean is taken off.
Pair = tuple[int, tuple[int, ...]]


def rereference(
    recording: Recording,
    *,
    scheme: Literal["average", "bipolar", "laplacian", "white_matter", "channels"] = "average",
    within: Literal["", "shaft", "channel_type"] = "",
    channels: list[str] | None = None,
    labels: list[str] | None = None,
    node: str = "ieeg",
) -> Recording:
    """Subtract from each channel a reference made of others.

    Parameters
    ----------
    recording : DataTree
        With the node of voltages.
    scheme : str
        ``average``: the mean of all good channels. ``bipolar``: the next contact of the shaft;
        channels become A1-A2, placed mid-way. ``laplacian``: the mean of the two neighbours on the
        shaft, the one there is at its ends. ``white_matter``: the mean of good contacts whose
        region is white matter. ``channels``: the mean of those named.
    within : str
        With average or white_matter: the mean is of each ``"shaft"`` or ``"channel_type"`` alone.
    channels : list of str, optional
        The reference of scheme `channels`; they stay among the channels.
    labels : list of str, optional
        What a region's name holds if it is white matter; by default "white matter" or "wm",
        as whole words in any case.
    node : str
        ``"ieeg"`` or ``"ephys/<name>"``.

    Raises
    ------
    DataError
        No good channel to refer to, unknown channels, a shaft with a number twice, or no shafts.

    Notes
    -----
    Lazy, sample by sample. Channels of status bad are in no mean and no one's neighbour under
    `laplacian`; a bipolar pair with a bad contact is bad. Contacts are neighbours if their numbers
    follow each other: a gap is not bridged. A sample that is NaN in a reference is NaN in all that
    refer to it. Equals ``mne.set_eeg_reference`` and ``mne.set_bipolar_reference``, but that bad
    channels are referred too: one recording, one reference.

    Source: Li et al. 2018, NeuroImage 183:327; Mercier et al. 2022, NeuroImage 260:119438.
    """
    found = voltages(recording, node, "rereference")
    if (channels is None) == (scheme == "channels"):
        raise DataError(
            f"rereference: scheme {scheme!r} with channels {channels}; channels are named for "
            "scheme 'channels', and only there"
        )
    if scheme in ("bipolar", "laplacian"):
        pairs = _along_shafts(found, scheme)
    else:
        pairs = _to_means(found, scheme, within, channels or [], labels or list(WHITE_MATTER))
    values = da.map_blocks(
        partial(_differences, pairs=pairs), found.values,
        chunks=(found.values.chunks[0], (len(pairs),)),
        dtype=found.values.dtype, meta=np.empty((0, 0), found.values.dtype),
    )  # fmt: skip
    before = found.dataset["voltage"]
    time = {n: c.variable for n, c in found.dataset.coords.items() if "time" in c.dims}
    dataset = xr.Dataset(
        {"voltage": (before.dims, values, before.attrs)},
        xr.Coordinates({**time, **_coords(found, pairs, scheme)}, indexes={}),
        {**found.dataset.attrs, "reference": scheme, "sampling_rate_hz": found.rate_hz},
    )
    indexed = [name for name in found.dataset.xindexes if name in dataset.coords]
    out = recording.copy()
    out[node] = xr.DataTree(dataset.assign_coords({n: dataset[n] for n in indexed}))
    return out


def _differences(block: np.ndarray, pairs: Sequence[Pair]) -> np.ndarray:
    """Return each channel less the mean of its reference, (time, pair)."""
    own = np.array([pair[0] for pair in pairs])
    columns: dict[tuple[int, ...], list[int]] = {}
    near: dict[int, list[int]] = {}
    for place, (_, others) in enumerate(pairs):
        if len(others) < 3:
            near.setdefault(len(others), []).append(place)
        else:
            columns.setdefault(others, []).append(place)
    out = np.empty((len(block), len(pairs)), block.dtype)
    for first in range(0, len(block), ROWS):  # few rows at a time: whole lines of the cache
        part, into = block[first : first + ROWS].astype(np.float64), out[first : first + ROWS]
        for others, places in columns.items():
            mean = part[:, list(others)].mean(axis=1, keepdims=True)
            into[:, places] = part[:, own[places]] - mean
        for places in near.values():
            others_of = np.array([pairs[place][1] for place in places])
            into[:, places] = part[:, own[places]] - part[:, others_of].mean(axis=2)
    return out


def _good(found: Voltages) -> np.ndarray:
    if "status" not in found.dataset.coords:
        return np.ones(len(found.names), dtype=bool)
    return found.dataset["status"].values.astype(str) != "bad"


def _text(found: Voltages, name: str, why: str) -> np.ndarray:
    """Return a coordinate of the channels as text.

    Raises
    ------
    DataError
        The node does not have it.
    """
    if name not in found.dataset.coords:
        raise DataError(
            f"rereference: node {found.node} does not tell the {name} of its channels, which "
            f"{why} needs; ingest it with its channels.tsv and electrodes.tsv"
        )
    return found.dataset[name].values.astype(str)


def _to_means(
    found: Voltages, scheme: str, within: str, channels: Sequence[str], labels: Sequence[str]
) -> list[Pair]:
    names, use = found.names, _good(found)
    if scheme == "channels":
        unknown = [name for name in channels if name not in names]
        if unknown or not channels:
            lost = unknown[0] if unknown else ""
            raise DataError(
                f"rereference: no channel {lost!r} in node {found.node}{registry.hint(lost, names)}"
            )
        use = np.isin(names, channels)
    if scheme == "white_matter":
        spaced = [re.sub(r"[\W_]+", " ", r).lower() for r in _text(found, "region", scheme)]
        use &= [any(re.search(rf"\b{re.escape(x.lower())}\b", r) for x in labels) for r in spaced]
    groups = _text(found, within, f"within={within!r}") if within else np.full(len(names), "")
    pairs: list[Pair] = []
    for own, group in enumerate(groups):
        others = tuple(np.flatnonzero(use & (groups == group)).tolist())
        if not others:
            raise DataError(
                f"rereference: no good channel to refer {names[own]} to under scheme {scheme!r}"
                f"{f', within {within} {group!r}' if within else ''}; choose another scheme"
            )
        pairs.append((own, others))
    return pairs


def _along_shafts(found: Voltages, scheme: str) -> list[Pair]:
    """Return differences of neighbouring contacts.

    Raises
    ------
    DataError
        Two contacts of one shaft have one number, or no two are neighbours.
    """
    names, good = found.names, _good(found)
    contacts: dict[tuple[str, int], int] = {}
    for place, shaft in enumerate(_text(found, "shaft", f"scheme {scheme!r}")):
        digits = re.search(r"(\d+)$", names[place])
        if not shaft or digits is None:
            continue
        key = (shaft, int(digits[1]))
        if key in contacts:
            raise DataError(
                f"rereference: {names[contacts[key]]} and {names[place]} are both contact "
                f"{key[1]} of shaft {shaft!r}, expected one; mend `group` in channels.tsv"
            )
        contacts[key] = place
    pairs: list[Pair] = []
    for (shaft, number), own in contacts.items():
        after = contacts.get((shaft, number + 1))
        if scheme == "bipolar":
            pairs += [] if after is None else [(own, (after,))]
            continue
        near = (contacts.get((shaft, number - 1)), after)
        others = tuple(n for n in near if n is not None and good[n])
        pairs += [(own, others)] if others else []
    used = {i for own, others in pairs for i in (own, *others)}
    lost = [name for i, name in enumerate(names) if i not in used]
    if not pairs:
        raise DataError(
            f"rereference: no two of {len(names)} contacts of node {found.node} are neighbours on "
            "a shaft; expected names like A1, A2"
        )
    if lost:
        log.warning("rereference: without a neighbour, left out: %s", ", ".join(lost))
    return pairs


def _coords(found: Voltages, pairs: Sequence[Pair], scheme: str) -> dict[str, tuple]:
    """Return the new channels' coordinates; of a bipolar pair what both have in common."""
    own = [pair[0] for pair in pairs]
    other = [pair[1][0] if scheme == "bipolar" else pair[0] for pair in pairs]
    names = np.array(found.names, dtype=object)
    if scheme == "bipolar":
        names = np.array(
            [f"{names[a]}-{names[b]}" for a, b in zip(own, other, strict=True)], object
        )
    else:
        names = names[own]
    coords: dict[str, tuple] = {"channel": ("channel", names, {"units": ""})}
    for name, coord in found.dataset.coords.items():
        if name == "channel" or coord.dims != ("channel",):
            continue
        values = coord.values
        if values.dtype.kind == "f":
            joined = (values[own] + values[other]) / 2
        elif name == "status":
            bad = ~_good(found)
            joined = np.where(bad[own] | bad[other], "bad", values[own]).astype(object)
        else:
            both = zip(values[own], values[other], strict=True)
            joined = np.array([a if a == b else f"{a}-{b}" for a, b in both], dtype=object)
        coords[str(name)] = ("channel", joined, coord.attrs)
    return coords
