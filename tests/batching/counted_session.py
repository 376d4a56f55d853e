"""Small prepared sessions for folds and sequences."""

import numpy as np
import xarray as xr
from hypothesis import settings

SECOND, ONE = {"units": "s"}, {"units": "1"}
# a shared machine may stall, and the same examples shall come back on the next run
QUICK = settings(deadline=None, max_examples=50, derandomize=True)


def prepared(counts, *, trials=None, behavior=None, unit=None, width=0.1, observed=None, **attrs):
    """Recording with counts (bin, unit) from 0 s on, trials (trial, 2), s, and behaviour."""
    counts = np.asarray(counts)
    time = ("time", (np.arange(len(counts)) + 0.5) * width, SECOND)
    unit = np.arange(counts.shape[1]) if unit is None else np.asarray(unit)
    node = xr.Dataset(
        {"spike_count": (("time", "unit"), counts.astype(np.uint16), ONE | {"bin_width_s": width})},
        {"time": time, "unit": ("unit", unit, ONE)},
    )
    if observed is not None:
        node["observed"] = ("time", np.asarray(observed, bool), ONE)
    nodes = {
        "/": xr.Dataset(attrs={"session": "made-7", "subject": "m1", **attrs}),
        "/counts": node,
    }
    if behavior is not None:
        columns = {name: ("time", np.asarray(v, float), ONE) for name, v in behavior.items()}
        nodes["/behavior"] = xr.Dataset(columns, {"time": time})
    if trials is not None:
        edges = np.asarray(trials, float)
        nodes["/trials"] = xr.Dataset(
            {
                "start_time": ("trial", edges[:, 0], SECOND),
                "stop_time": ("trial", edges[:, 1], SECOND),
            }
        )
    return xr.DataTree.from_dict(nodes)


def busy(n_bins, n_units=3, seed=0):
    """Counts without structure, (bin, unit)."""
    return np.random.default_rng(seed).poisson(2, (n_bins, n_units))
