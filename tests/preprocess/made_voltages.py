"""Recordings of voltages whose every sample is known, cut in any way."""

import dask.array as da
import numpy as np
import xarray as xr
from hypothesis import settings

from neuropipe.runs import run_slices

RATE = 250.0
FEW = settings(deadline=None, max_examples=12, derandomize=True)


def noise(n_samples, n_channels=3, seed=0):
    """Return (time, channel), V: white noise, a drift and an offset."""
    rng = np.random.default_rng(seed)
    drift = np.linspace(0, 1, n_samples)[:, None] ** 2
    return 5e-5 * (rng.standard_normal((n_samples, n_channels)) + 20 * drift - 7)


def ieeg(values, chunks=None, runs=(), rate=RATE, node="ieeg", dtype=None, **coords):
    """Recording of voltages, lazy in `chunks` rows; `runs` are the samples where runs begin."""
    values = np.asarray(values)
    values = values.astype(dtype or values.dtype)
    n, n_channels = values.shape
    edges = [0, *runs, n]
    # each run begins 10 s after the one before it ends
    starts = [edge / rate + 10 * i for i, edge in enumerate(edges[:-1])]
    time = np.concatenate(
        [s + np.arange(b - a) / rate for s, a, b in zip(starts, edges, edges[1:], strict=False)]
    )
    text = {"units": ""}
    names = coords.pop("channel", [f"A{i + 1}" for i in range(n_channels)])
    own = {
        name: ("channel", np.array(v), {"units": "mm"})
        if name in "xyz"
        else ("channel", np.array(v, object), text)
        for name, v in {"channel": names, **coords}.items()
    }
    data = da.from_array(values, chunks=(chunks or n, -1))
    dataset = xr.Dataset(
        {"voltage": (("time", "channel"), data, {"units": "V"})},
        {"time": ("time", time, {"units": "s"}), **own},
        {"sampling_rate_hz": rate},
    )
    attrs = {"session": "made-8", "subject": "01", "history": "[]"}
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), f"/{node}": dataset})
    if len(runs):
        labels = np.array([str(i) for i in range(len(starts))], object)
        stops = [s + (b - a) / rate for s, a, b in zip(starts, edges, edges[1:], strict=False)]
        tree["runs"] = xr.DataTree(
            xr.Dataset(
                {
                    "run_label": ("run", labels, text),
                    "start_time": ("run", np.array(starts), {"units": "s"}),
                    "stop_time": ("run", np.array(stops), {"units": "s"}),
                }
            )
        )
    return tree


def of_runs(recording, function, node="ieeg"):
    """Return what a function of (channel, time) makes of each run, one after another."""
    values = recording[node]["voltage"].values.astype(float)
    return np.concatenate([function(values[run].T).T for run in run_slices(recording, node)])


def is_close(found, expected, tolerance):
    """Compare relative to the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
