"""Raw fluorescence to its change over a running baseline."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd

from neuropipe.errors import DataError
from neuropipe.preprocess.signals import floats, node_dataset, replaced
from neuropipe.runs import run_slices
from neuropipe.schema import Recording


def delta_f(
    recording: Recording,
    *,
    series: str,
    window_s: float = 60.0,
    baseline_percentile: float = 8.0,
) -> Recording:
    """Write `dff` (time, roi), dF/F0, beside `fluorescence` of node ``calcium/<series>``.

    Parameters
    ----------
    recording : DataTree
        With node ``calcium/<series>``, and node `runs` where there are several.
    series : str
        Name of the series.
    window_s : float
        Length of the window, centred on each sample, whose percentile is its baseline F0; several
        times longer than a transient.
    baseline_percentile : float
        Low enough to lie below the transients, 0 to 100.

    Raises
    ------
    DataError
        No such series; a percentile or window out of range; and, when the values are computed, a
        baseline of 0 or less: such traces had their baseline taken off before.

    Notes
    -----
    Lazy. No window reaches across a run's end: there it holds what is left of it. NaN has no say.
    The window is centred, so it knows `window_s` / 2 of the future.

    Source: the running 8th percentile of Dombeck et al. 2007, Neuron 56:43 (window 15 s there),
    doi:10.1016/j.neuron.2007.08.003.
    """
    node = f"calcium/{series}"
    dataset = node_dataset(recording, node, "delta_f")
    if "fluorescence" not in dataset:
        raise DataError(
            f"delta_f: node {node} has {', '.join(map(str, dataset.data_vars))}, expected "
            "fluorescence"
        )
    if not 0 <= baseline_percentile <= 100:
        raise DataError(f"delta_f: baseline_percentile is {baseline_percentile}, expected 0 to 100")
    array = dataset["fluorescence"]
    values = floats(array)
    time = dataset["time"]
    parts = []
    for run in run_slices(recording, node):
        n = run.stop - run.start
        ends = time.isel(time=[run.start, run.stop - 1]).values
        step_s = (ends[1] - ends[0]) / max(n - 1, 1)
        if not window_s > step_s:
            raise DataError(
                f"delta_f: window_s is {window_s}, expected more than a sample, {step_s:g} s"
            )
        half = min(n - 1, round(window_s / 2 / step_s)) if step_s > 0 else 0
        parts.append(_over_baseline(values[run], half, baseline_percentile, node))
    attrs = {"units": "1", "window_s": window_s, "baseline_percentile": baseline_percentile}
    dataset["dff"] = (array.dims, da.concatenate(parts), attrs)
    return replaced(recording, node, dataset)


def _over_baseline(values: da.Array, half: int, percentile: float, node: str) -> da.Array:
    # blocks no shorter than the half window that they borrow from each neighbour
    shortest = max(half, 1)
    if min(values.chunks[0]) < shortest:
        values = values.rechunk({0: _chunks(values.chunks[0], shortest)})

    def block(part: np.ndarray) -> np.ndarray:
        # min_periods: windows at the ends, and those with NaN, take what they have
        windows = pd.DataFrame(part).rolling(2 * half + 1, center=True, min_periods=1)
        baseline = windows.quantile(percentile / 100).to_numpy()
        if (baseline <= 0).any():
            at = int(np.flatnonzero((baseline <= 0).any(axis=0))[0])
            raise DataError(
                f"delta_f: the baseline of roi {at} of {node} falls to {np.nanmin(baseline):g}, "
                "expected raw fluorescence above 0; such traces are dF/F or deconvolved already"
            )
        return ((part - baseline) / baseline).astype(part.dtype)

    return values.map_overlap(block, depth={0: half}, boundary="none", dtype=values.dtype)


def _chunks(sizes: tuple[int, ...], shortest: int) -> tuple[int, ...]:
    """Join neighbouring chunks until none is shorter than `shortest`."""
    out: list[int] = []
    for size in sizes:
        if out and out[-1] < shortest:
            out[-1] += size
        else:
            out.append(size)
    if len(out) > 1 and out[-1] < shortest:
        last = out.pop()
        out[-1] += last
    return tuple(out)
