"""Histories: only the past, and only of the same window."""

import numpy as np
import pytest
from counted_session import QUICK, busy, prepared
from hypothesis import given
from hypothesis import strategies as st

from neuropipe.batching.history import BASES, filter_history, history_basis
from neuropipe.batching.sequences import Source, stretches
from neuropipe.batching.windows import attach_windows, cut_evenly, window_edges, window_slices
from neuropipe.errors import ConfigError, DataError

LAGS = st.integers(1, 12)


def basis_of(kind, n_lags):
    return history_basis(kind, n_lags, {"exponential": 1, "lags": n_lags}.get(kind, min(3, n_lags)))


@QUICK
@given(st.sampled_from(BASES), LAGS, st.integers(1, 30), st.integers(0, 29))
def test_the_present_and_the_future_are_never_in_it(kind, n_lags, n_bins, at):
    at = at % n_bins
    counts = busy(n_bins)
    other = counts.copy()
    other[at:] += 7
    basis = basis_of(kind, n_lags)
    before, after = filter_history(counts, basis), filter_history(other, basis)
    np.testing.assert_array_equal(before[: at + 1], after[: at + 1])


@QUICK
@given(st.sampled_from(BASES), LAGS, st.integers(1, 30))
def test_equals_the_sum_written_out(kind, n_lags, n_bins):
    counts, basis = busy(n_bins), basis_of(kind, n_lags)
    n_basis = basis.shape[1]
    out = filter_history(counts, basis)
    assert out.shape == (n_bins, 3 * n_basis)
    for t in range(n_bins):
        for unit in range(3):
            for b in range(n_basis):
                past = sum(
                    basis[k - 1, b] * counts[t - k, unit] for k in range(1, min(n_lags, t) + 1)
                )
                assert out[t, unit * n_basis + b] == pytest.approx(past)


@QUICK
@given(st.sampled_from(BASES), LAGS, st.integers(1, 5))
def test_basis_functions_sum_to_one(kind, n_lags, n_basis):
    n_basis = {"exponential": 1, "lags": n_lags}.get(kind, min(n_basis, n_lags))
    basis = history_basis(kind, n_lags, n_basis)
    assert basis.shape == (n_lags, n_basis)
    np.testing.assert_allclose(basis.sum(0), 1.0)
    assert (basis >= 0).all()


def test_a_window_starts_silent():
    """Bins before a window belong to another window, perhaps a held-out one."""
    counts = busy(100)
    other = counts.copy()
    other[:50] += 9
    source, windows = Source(), [[5.0, 7.0], [8.0, 9.0]]
    basis = history_basis("exponential", 5, 1)
    parts, changed = (
        stretches(attach_windows(prepared(c), windows), source, None) for c in (counts, other)
    )
    for one, two in zip(parts, changed, strict=True):
        history = filter_history(one.counts, basis)
        assert not history[0].any()
        np.testing.assert_array_equal(history, filter_history(two.counts, basis))


def test_a_history_longer_than_the_window():
    assert filter_history(busy(1), basis_of("lags", 5)).shape == (1, 15)


@pytest.mark.parametrize(
    ("kind", "n_basis", "message"),
    [("exponential", 2, "found n_basis=2"), ("spline", 1, "'spline'; known are exponential")],
)
def test_unknown_bases(kind, n_basis, message):
    with pytest.raises(ConfigError, match=message):
        history_basis(kind, 5, n_basis)


@QUICK
@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(0.01, 9)), min_size=1, max_size=8))
def test_a_bin_whose_centre_is_in_a_window_is_read_once(windows):
    edges = np.array([(a, a + b) for a, b in windows])
    time = (np.arange(200) + 0.5) / 10
    expected = np.flatnonzero([((t >= edges[:, 0]) & (t < edges[:, 1])).any() for t in time])
    if not len(expected):
        with pytest.raises(DataError, match=r"session s: none of .* windows holds a sample"):
            window_slices(time, edges, "s")
        return
    found = [np.arange(200)[part] for part in window_slices(time, edges, "s")]
    # in order, every bin once, and each part inside one window
    np.testing.assert_array_equal(np.concatenate(found), expected)
    for bins in found:
        low, high = time[bins[0]], time[bins[-1]]
        assert ((edges[:, 0] <= low) & (high < edges[:, 1])).any()


def test_windows_stand_before_trials_and_trials_before_the_whole():
    time = (np.arange(20) + 0.5) / 10
    plain, trials = prepared(busy(20)), prepared(busy(20), trials=[(0, 1)])
    np.testing.assert_allclose(window_edges(plain, time), [[0, 2]], atol=1e-9)
    np.testing.assert_allclose(window_edges(trials, time), [[0, 1]])
    np.testing.assert_allclose(window_edges(attach_windows(trials, [[1, 2]]), time), [[1, 2]])
    assert "windows" not in trials.children


@QUICK
@given(st.floats(-10, 10), st.floats(0.1, 100), st.floats(0.05, 200))
def test_even_cuts(start, extent, length):
    edges = cut_evenly(start, start + extent, length)
    assert len(edges) == max(1, int(extent / length + 1e-9))
    np.testing.assert_array_equal(edges[1:, 0], edges[:-1, 1])
    assert edges[0, 0] == start
    assert edges[-1, 1] <= start + extent
