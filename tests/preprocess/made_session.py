"""Small recordings whose every value is known, lazy or not."""

import dask.array as da
import numpy as np
import xarray as xr
from hypothesis import settings

SECOND = {"units": "s"}
ONE = {"units": "1"}
# a shared machine may stall, and the same examples shall come back on the next run
QUICK = settings(deadline=None, max_examples=40, derandomize=True)


def session(trains, *, lazy=False, **unit_columns):
    """Recording with one unit a train of spike times, s; columns are of node units."""
    times = np.concatenate([np.sort(np.asarray(t, float)) for t in trains]) if trains else []
    index = np.repeat(np.arange(len(trains)), [len(t) for t in trains]).astype(np.int32)
    times = np.asarray(times, float)
    stored = da.from_array(times, chunks=max(1, len(times) // 3)) if lazy else times
    spikes = xr.Dataset(
        {"spike_time": ("spike", stored, SECOND), "unit_index": ("spike", index, ONE)}
    )
    units = xr.Dataset(
        {name: ("unit", values, ONE) for name, values in unit_columns.items()},
        {"unit": ("unit", 100 + np.arange(len(trains)), ONE)},
    )
    attrs = {"session": "made-7", "subject": "m1", "history": "[]"}
    nodes = {"/": xr.Dataset(attrs=attrs), "/spikes": spikes, "/units": units}
    return xr.DataTree.from_dict(nodes)


def counted(counts, width=0.1, start=0.0, lazy=False):
    """Recording with node counts, (bin, unit)."""
    counts = np.asarray(counts, dtype=np.uint16)
    data = da.from_array(counts, chunks=(max(1, len(counts) // 3), -1)) if lazy else counts
    time = start + (np.arange(len(counts)) + 0.5) * width
    node = xr.Dataset(
        {"spike_count": (("time", "unit"), data, {"units": "1", "bin_width_s": width})},
        {"time": ("time", time, SECOND), "unit": ("unit", np.arange(counts.shape[1]), ONE)},
    )
    attrs = {"session": "made-7", "subject": "m1", "history": "[]"}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), "/counts": node})


def with_series(recording, name, time, values, units="m"):
    """Add a series of behaviour on its own clock."""
    dims = ("time", "space")[: np.ndim(values)]
    recording[f"behavior/{name}"] = xr.DataTree(
        xr.Dataset(
            {name: (dims, np.asarray(values, float), {"units": units})},
            {"time": ("time", np.asarray(time, float), SECOND)},
        )
    )
    return recording


def with_table(recording, name, start, stop, **columns):
    """Add a table of intervals, or the trials."""
    path, dim = ("trials", "trial") if name == "trials" else (f"intervals/{name}", "interval")
    data = {"start_time": start, "stop_time": stop}
    node = {k: (dim, np.asarray(v, float), SECOND) for k, v in data.items()}
    node |= {k: (dim, np.asarray(v), ONE) for k, v in columns.items()}
    recording[path] = xr.DataTree(xr.Dataset(node))
    return recording


def with_calcium(recording, name, values, rate_hz=20.0, start_s=0.0, chunk=None):
    """Add a series of fluorescence, (time, roi), lazy in chunks of `chunk` samples."""
    values = np.asarray(values)
    data = da.from_array(values, chunks=(chunk or len(values), -1))
    time = start_s + np.arange(len(values)) / rate_hz
    node = {"fluorescence": (("time", "roi"), data, ONE)}
    recording[f"calcium/{name}"] = xr.DataTree(
        xr.Dataset(node, {"time": ("time", time, SECOND)}, {"sampling_rate_hz": rate_hz})
    )
    return recording


def with_events(recording, name, times):
    """Add point events."""
    node = xr.Dataset({"event_time": ("event", np.asarray(times, float), SECOND)})
    recording[f"events/{name}"] = xr.DataTree(node)
    return recording


def with_runs(recording, start, stop):
    """Add node `runs`, run-1, run-2, ..."""
    labels = np.array([f"run-{i + 1}" for i in range(len(start))], dtype=object)
    recording["runs"] = xr.DataTree(
        xr.Dataset(
            {
                "run_label": ("run", labels, {"units": ""}),
                "start_time": ("run", np.asarray(start, float), SECOND),
                "stop_time": ("run", np.asarray(stop, float), SECOND),
            }
        )
    )
    return recording
