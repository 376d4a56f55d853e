"""Baseline, drift and z-score: as scipy has them, within runs, and whatever the chunks are."""

import dask.array as da
import numpy as np
import pytest
import scipy.signal
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from made_session import QUICK, with_calcium, with_runs, with_table

from neuropipe.errors import DataError
from neuropipe.preprocess.delta_f import delta_f
from neuropipe.preprocess.detrend_signal import detrend_signal
from neuropipe.preprocess.standardize import standardize

NODE = "calcium/a"
RATE_HZ = 10.0


def made(values, chunk=None, runs=None):
    attrs = {"session": "made-7", "history": "[]"}
    recording = with_calcium(
        xr.DataTree(xr.Dataset(attrs=attrs)), "a", values, rate_hz=RATE_HZ, chunk=chunk
    )
    if runs:
        bounds = np.array([0, *runs, len(values)]) / RATE_HZ
        recording = with_runs(recording, bounds[:-1], bounds[1:])
    return recording


def traces(n, seed=0, dtype=np.float64, offset=100.0):
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(n, 3)).cumsum(0) + 5 * rng.random((n, 3))
    return (walk - walk.min() + offset).astype(dtype)


STEPS = {
    "delta_f": lambda r: delta_f(r, series="a", window_s=1.5)[NODE]["dff"],
    "detrend": lambda r: detrend_signal(r, node=NODE)[NODE]["fluorescence"],
    "constant": lambda r: detrend_signal(r, node=NODE, kind="constant")[NODE]["fluorescence"],
    "z": lambda r: standardize(r, node=NODE, over="recording")[NODE]["fluorescence"],
}


@pytest.mark.parametrize("name", STEPS)
@QUICK
@given(
    n=st.integers(8, 70),
    chunk=st.integers(1, 30),
    cut=st.integers(3, 65),
    holes=st.booleans(),
)
def test_chunks_do_not_change_numbers(name, n, chunk, cut, holes):
    values = traces(n, seed=n)
    if holes:
        values[2::5, 1] = np.nan
    runs = [cut] if cut < n - 3 else None
    whole = STEPS[name](made(values, runs=runs)).values
    pieces = STEPS[name](made(values, chunk, runs))
    assert isinstance(pieces.data, da.Array)
    np.testing.assert_allclose(pieces.values, whole, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(np.isnan(whole), np.isnan(values))


@pytest.mark.parametrize("name", STEPS)
def test_runs_are_kept_apart(name):
    values = traces(60)
    both = STEPS[name](made(values, 7, runs=[25])).values
    alone = [STEPS[name](made(part, 7)).values for part in (values[:25], values[25:])]
    np.testing.assert_allclose(both, np.concatenate(alone), atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["linear", "constant"])
def test_the_line_is_that_of_scipy(kind, dtype):
    values = traces(500, dtype=dtype, offset=1000)
    out = detrend_signal(made(values, 64), node=NODE, kind=kind)[NODE]["fluorescence"]
    assert out.dtype == dtype
    expected = scipy.signal.detrend(values.astype(float), axis=0, type=kind)
    np.testing.assert_allclose(out.values, expected, atol=1e-3 if dtype == np.float32 else 1e-8)


def test_baseline_written_out():
    values = traces(40)
    out = delta_f(made(values, 6), series="a", window_s=0.8, baseline_percentile=25)[NODE]
    assert "fluorescence" in out
    assert out["dff"].attrs["units"] == "1"
    for i in (0, 3, 20, 39):
        window = values[max(0, i - 4) : i + 5]
        baseline = np.percentile(window, 25, axis=0)
        np.testing.assert_allclose(out["dff"].values[i], (values[i] - baseline) / baseline)


def test_baseline_must_be_above_zero():
    values = traces(30)
    values[:, 1] -= values[:, 1].mean()
    with pytest.raises(DataError, match=r"baseline of roi 1 of calcium/a falls to -.*deconvolved"):
        delta_f(made(values), series="a")[NODE]["dff"].compute()
    with pytest.raises(DataError, match="window_s"):
        delta_f(made(values), series="a", window_s=0.05)
    with pytest.raises(DataError, match=r"'calcium/b'.*it has calcium/a"):
        delta_f(made(values), series="b")


def test_z_score_is_taken_from_the_declared_intervals_only():
    values = traces(50)
    recording = with_table(made(values, 8), "rest", [1.0], [3.0])
    out = standardize(recording, node=NODE, over="rest")[NODE]["fluorescence"]
    rest = values[10:30]
    np.testing.assert_allclose(out.values, (values - rest.mean(0)) / rest.std(0))
    assert out.attrs["standardized_from_units"] == "1"
    changed = values.copy()
    changed[30:] += 50
    recording = with_table(made(changed, 8), "rest", [1.0], [3.0])
    again = standardize(recording, node=NODE, over="rest")[NODE]["fluorescence"]
    np.testing.assert_array_equal(again.values[:30], out.values[:30])


def test_z_score_refuses():
    recording = with_table(made(traces(50), runs=[35]), "rest", [1.0], [3.0])
    with pytest.raises(DataError, match=r"between 3\.5 and 4\.9 s lies in 'rest'"):
        standardize(recording, node=NODE, over="rest")
    standardize(recording, node=NODE, over="rest", within_runs=False)
    flat = traces(50)
    flat[:, 2] = 7.0
    with pytest.raises(DataError, match=r"1 of 3 columns .* do not vary \(first: column 2"):
        standardize(made(flat), node=NODE, over="recording")[NODE]["fluorescence"].compute()
    with pytest.raises(DataError, match="no table 'rset'"):
        standardize(recording, node=NODE, over="rset")
    with pytest.raises(DataError, match="no signal 'dff'"):
        standardize(recording, node=NODE, variable="dff", over="rest")


def test_the_signal_is_not_held_between_its_two_readings():
    """Blocks of the second reading are asked for one by one, after the first has ended."""
    log = []

    def load(block):
        log.append("load")
        return block

    recording = made(traces(200), 5)
    node = recording[NODE].to_dataset()
    lazy = node["fluorescence"].data.map_blocks(load, dtype=float, meta=np.zeros((0, 0)))
    node["fluorescence"] = (("time", "roi"), lazy, {"units": "1"})
    recording[NODE].dataset = node
    out = standardize(recording, node=NODE, over="recording")[NODE]["fluorescence"].data

    def store(block):
        log.append("store")
        return block

    out.map_blocks(store, dtype=float, meta=np.zeros((0, 0))).compute(scheduler="synchronous")
    assert log[:40] == ["load"] * 40
    assert log[40:] == ["load", "store"] * 40


def test_two_readings_in_a_row():
    values = traces(120)
    out = detrend_signal(made(values, 7, runs=[50]), node=NODE)
    z = standardize(out, node=NODE, over="recording")[NODE]["fluorescence"]
    for run in (slice(0, 50), slice(50, 120)):
        flat = scipy.signal.detrend(values[run], axis=0)
        np.testing.assert_allclose(z.values[run], flat / flat.std(0), atol=1e-9)
