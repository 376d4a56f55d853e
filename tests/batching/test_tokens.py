"""Spikes as tokens: every spike of a stretch once, and nothing over its edges."""

import numpy as np
import pytest
import xarray as xr

from neuropipe.batching import raster as rasters
from neuropipe.batching.raster import keep_units, read_raster, split_tail
from neuropipe.batching.tokens import (
    around,
    cut_windows,
    frames_of,
    ragged,
    tokens_between,
    window_mean,
)
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError

WIDTH = 0.01


def session(counts: np.ndarray, **extra) -> xr.DataTree:
    """Counts (bin, unit) from time 0, perhaps with behaviour, a movie or unobserved bins."""
    n = len(counts)
    time = ("time", (np.arange(n) + 0.5) * WIDTH, {"units": "s"})
    node = xr.Dataset(
        {"spike_count": (("time", "unit"), counts.astype(np.uint16),
                         {"units": "1", "bin_width_s": WIDTH})},
        {"time": time, "unit": ("unit", 10 + np.arange(counts.shape[1]), {"units": "1"})},
    )  # fmt: skip
    if "observed" in extra:
        node["observed"] = ("time", extra["observed"], {"units": "1"})
    nodes = {"/": xr.Dataset(attrs={"subject": "s", "session": "a"}), "/counts": node}
    if "signal" in extra:
        nodes["/behavior"] = xr.Dataset(
            {"speed": ("time", extra["signal"], {"units": "m/s"})}, {"time": time}
        )
    if "onset" in extra:
        frames = np.arange(len(extra["onset"]), dtype=np.float32)[:, None, None] * np.ones((2, 3))
        nodes["/stimulus/bar"] = xr.Dataset(
            {
                "frame": (("frame", "y", "x"), frames, {"units": "1"}),
                "frame_time": ("frame", np.asarray(extra["onset"], float), {"units": "s"}),
            }
        )
    return xr.DataTree.from_dict(nodes)


def drawn(n_bins: int = 97, n_units: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.3, (n_bins, n_units))


def test_windows_hold_every_spike_of_their_stretches_once_and_in_order(monkeypatch):
    monkeypatch.setattr(rasters, "BLOCK_ENTRIES", 30)  # several blocks a stretch
    counts = drawn()
    raster = read_raster(attach_windows(session(counts), [[0.0, 0.33], [0.5, 0.97]]))
    assert raster.time == pytest.approx((np.r_[0:33, 50:97] + 0.5) * WIDTH)
    seen = counts[np.r_[0:33, 50:97]]
    assert np.array_equal(raster.counts(), seen)
    assert np.array_equal(raster.total(), seen.sum(0))
    windows = cut_windows(raster, 5, 8)
    found = tokens_between(raster, windows.start, windows.start + windows.size)
    expected = []
    for start, size in zip(windows.start, windows.size, strict=True):
        for b in range(size):
            for u in range(4):
                expected += [(b, u)] * int(seen[start + b, u])
    assert list(zip(found.bin.tolist(), found.unit.tolist(), strict=True)) == expected
    assert found.length.sum() == seen.sum()


def test_neither_windows_nor_their_past_reach_over_an_edge():
    """Two stretches that touch in time, as adjacent blocks of a fold do, stay apart."""
    raster = read_raster(attach_windows(session(drawn()), [[0.0, 0.33], [0.33, 0.97]]))
    windows = cut_windows(raster, 5, 8)
    stretch = np.searchsorted(raster.first, windows.start, side="right") - 1
    assert (windows.start + windows.size <= raster.stop[stretch]).all()
    assert (windows.start - windows.past >= raster.first[stretch]).all()
    assert windows.past[stretch == 1][:3].tolist() == [0, 5, 8]
    assert windows.size[stretch == 0].tolist() == [5] * 6 + [3]
    at = around(raster, windows, 5, 8)
    assert at.shape == (len(windows), 13)
    for row, n in zip(at, stretch, strict=True):
        inside = row[row >= 0]
        assert ((inside >= raster.first[n]) & (inside < raster.stop[n])).all()
    assert ((at >= 0).sum(1) == windows.past + windows.size).all()


def test_an_offset_moves_the_windows_and_leaves_its_bins_as_past():
    raster = read_raster(session(drawn(20)))
    windows = cut_windows(raster, 5, 8, offset=3)
    assert windows.start.tolist() == [3, 8, 13, 18]
    assert windows.size.tolist() == [5, 5, 5, 2]
    assert windows.past.tolist() == [3, 8, 8, 8]
    assert len(cut_windows(raster, 5, 8, offset=30)) == 0


def test_bins_that_were_not_observed_end_a_stretch():
    observed = np.ones(97, dtype=bool)
    observed[40:43] = False
    raster = read_raster(session(drawn(), observed=observed))
    assert raster.first.tolist() == [0, 40]
    assert raster.stop.tolist() == [40, 94]
    with pytest.raises(DataError, match=r"no bin of its windows was observed"):
        read_raster(session(drawn(), observed=~np.ones(97, dtype=bool)))


def test_the_last_share_is_set_aside_with_a_gap():
    raster = read_raster(attach_windows(session(drawn()), [[0.0, 0.4], [0.5, 0.9]]))
    early, late = split_tail(raster, 0.25, 6)
    assert (early.first.tolist(), early.stop.tolist()) == ([0, 40], [40, 54])
    assert (late.first.tolist(), late.stop.tolist()) == ([60], [80])
    assert early.total().sum() + late.total().sum() <= raster.total().sum()


def test_units_are_chosen_by_their_spikes_and_kept_by_name():
    counts = drawn()
    counts[:, 2] = 0
    raster = read_raster(session(counts))
    [kept] = keep_units([raster], 1)
    assert kept.unit.tolist() == [10, 11, 13]
    assert np.array_equal(kept.counts(), counts[:, [0, 1, 3]])
    turned = raster.only(np.array([13, 10]))
    assert np.array_equal(turned.counts(), counts[:, [3, 0]])
    assert (np.diff(turned.event_bin * 2 + turned.event_unit) >= 0).all()
    with pytest.raises(DataError, match=r"s/a: none of 4 units has 99 spikes"):
        keep_units([raster], 99)
    with pytest.raises(DataError, match=r"units 77 of the training data are absent"):
        raster.only(np.array([77]))


def test_frames_are_never_later_than_the_window_nor_gone_before_its_stretch():
    movie = session(drawn(40), onset=[0.0, 0.05, 0.1, 0.15, 0.22])
    raster = read_raster(attach_windows(movie, [[0.12, 0.32]]), stimulus="stimulus/bar")
    windows = cut_windows(raster, 5, 8)
    frame, lag = frames_of(raster, windows, 2)
    # windows begin at .12, .17, .22, .27; frame 2 is on the screen when the stretch begins
    assert frame.tolist() == [[2, 3], [2, 3], [3, 4], [3, 4]]
    assert lag == pytest.approx(np.array([[-2, 3], [-7, -2], [-7, 0], [-12, -5]]))
    first = frames_of(raster, windows.take(np.array([0])), 4)[0]
    assert first.tolist() == [[-1, -1, 2, 3]]
    with pytest.raises(DataError, match=r"expected grey images"):
        read_raster(
            xr.DataTree.from_dict(
                {"/counts": movie["counts"].to_dataset(),
                 "/stimulus/bar": movie["stimulus/bar"].to_dataset().drop_vars("frame_time")}
            ),
            stimulus="stimulus/bar",
        )  # fmt: skip


def test_signals_are_averaged_over_what_is_there():
    signal = np.arange(20.0)
    signal[5:8] = np.nan
    signal[10:15] = np.nan
    raster = read_raster(session(drawn(20), signal=signal), signals=["speed"])
    windows = cut_windows(raster, 5, 0)
    mean = window_mean(raster, windows, np.array([0]))[:, 0]
    assert mean == pytest.approx([2.0, 8.5, np.nan, 17.0], nan_ok=True)
    assert raster.channel_units == ("m/s",)


def test_ragged_ranges_lie_one_after_the_other():
    assert ragged(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ragged(np.zeros(0, int), np.zeros(0, int)).tolist() == []
