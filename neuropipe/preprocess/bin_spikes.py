"""Spike times to counts in bins of equal width."""

from __future__ import annotations

import dask.array as da
import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.schema import Recording, validate

BLOCK_SPIKES = 4_000_000  # spikes of the units that are binned together; bounds memory
# A spike this little before an edge lies on it: 3 * 0.1 is a hair above 0.3 in binary.
EDGE_S = 1e-9


def bin_spikes(
    recording: Recording,
    *,
    bin_width_s: float,
    start_s: float | None = None,
    stop_s: float | None = None,
) -> Recording:
    """Count each unit's spikes in bins of equal width and write node `counts`.

    Parameters
    ----------
    recording : DataTree
        With nodes `spikes` and `units`.
    bin_width_s : float
        Width of a bin.
    start_s, stop_s : float, optional
        Range to cover, from session start; by default the first to the last spike, grown to whole
        bins; of a given stop, a last bin that would not be whole is left out. A spike on an edge
        belongs to the later bin.

    Raises
    ------
    DataError
        If the width is not positive, no unit or no spike is there, or the range is empty.

    Notes
    -----
    Lazy: one block of units at a time is read when the counts are computed. Bins that lie outside
    of every observation interval of the source (node ``intervals/observed``) are marked False in
    `observed`.
    """
    validate(recording, "spikes", "units")
    session = recording.attrs.get("session", "unnamed")
    if not bin_width_s > 0:
        raise DataError(f"bin_spikes: bin_width_s is {bin_width_s}, expected a positive number")
    spikes, units = recording["spikes"].to_dataset(), recording["units"].to_dataset()
    n_units = units.sizes["unit"]
    time_of = spikes["spike_time"]
    if n_units == 0 or time_of.size == 0:
        raise DataError(
            f"bin_spikes: session {session} has {n_units} units and {time_of.size} spikes; nothing "
            "is left to bin, relax the selection of units"
        )
    start = float(time_of.min()) if start_s is None else start_s
    stop = float(time_of.max()) if stop_s is None else stop_s
    first = np.floor((start + EDGE_S) / bin_width_s)
    n_bins = int(np.floor((stop + EDGE_S) / bin_width_s) - first) + (stop_s is None)
    if n_bins < 1:
        raise DataError(
            f"bin_spikes: session {session}: {start:g} to {stop:g} s holds no bin of "
            f"{bin_width_s:g} s"
        )
    edges = (first + np.arange(n_bins + 1)) * bin_width_s
    bounds = np.searchsorted(spikes["unit_index"].values, np.arange(n_units + 1))
    counts = xr.Dataset(
        {
            "spike_count": (
                ("time", "unit"),
                _lazy_counts(time_of.data, bounds, edges),
                {"units": "1", "bin_width_s": float(bin_width_s), "long_name": "spike count"},
            )
        },
        {
            "time": ("time", (edges[:-1] + edges[1:]) / 2, {"units": "s"}),
            "unit": ("unit", units["unit"].values, {"units": "1"}),
        },
    )
    observed = _observed(recording, edges)
    if observed is not None:
        counts["observed"] = ("time", observed, {"units": "1"})
    out = recording.copy()
    out["counts"] = xr.DataTree(counts)
    return out


def _lazy_counts(times: da.Array, bounds: np.ndarray, edges: np.ndarray) -> da.Array:
    """Stack blocks of units, each counted by one task that reads its own spikes only."""
    blocks = []
    first = 0
    n_units = len(bounds) - 1
    while first < n_units:
        last = first + 1
        while last < n_units and bounds[last + 1] - bounds[first] <= BLOCK_SPIKES:
            last += 1
        part = times[bounds[first] : bounds[last]]
        if not isinstance(part, da.Array):
            part = da.from_array(part)
        within = bounds[first : last + 1] - bounds[first]
        block = da.from_delayed(
            _delayed_count(part, within, edges), (len(edges) - 1, last - first), np.uint16
        )
        blocks.append(block)
        first = last
    return da.concatenate(blocks, axis=1)


def _delayed_count(part: da.Array, within: np.ndarray, edges: np.ndarray):
    import dask

    return dask.delayed(count)(part, within, edges)


def count(times: np.ndarray, bounds: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count spikes, (bin, unit), uint16; `times` of one unit lie between two `bounds`.

    Raises
    ------
    DataError
        If a bin holds more than 65535 spikes of one unit: the bins are too wide.
    """
    out = np.empty((len(edges) - 1, len(bounds) - 1), dtype=np.uint16)
    for unit in range(len(bounds) - 1):
        own = times[bounds[unit] : bounds[unit + 1]]
        found = np.diff(np.searchsorted(own, edges - EDGE_S, side="left"))
        if found.max(initial=0) > np.iinfo(np.uint16).max:
            raise DataError(f"bin_spikes: {found.max()} spikes of one unit in one bin; narrow it")
        out[:, unit] = found
    return out


def _observed(recording: Recording, edges: np.ndarray) -> np.ndarray | None:
    if "intervals" not in recording.children or "observed" not in recording["intervals"].children:
        return None
    node = recording["intervals/observed"].to_dataset()
    out = np.zeros(len(edges) - 1, dtype=bool)
    for start, stop in zip(node["start_time"].values, node["stop_time"].values, strict=True):
        out |= (edges[:-1] >= start - EDGE_S) & (edges[1:] <= stop + EDGE_S)
    return out
