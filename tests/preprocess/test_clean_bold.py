"""Cleaning equals nilearn's regression, run by run, and streams."""

import warnings
import weakref

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bold import bold, noise, with_confounds, with_values
from made_session import QUICK

from neuropipe.errors import DataError
from neuropipe.preprocess.clean_bold import clean_bold
from neuropipe.preprocess.nuisance import STRATEGIES, confound_columns


def cleaned_by_nilearn(values, **options):
    from nilearn.signal import clean

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations that are not ours to mend
        return clean(np.asarray(values, np.float64), **options)


def motion(n, seed=3):
    random = np.random.default_rng(seed)
    return {name: np.cumsum(random.normal(0, 0.1, n)) for name in STRATEGIES["motion6"]}


@pytest.mark.parametrize("detrend", [True, False])
@pytest.mark.parametrize("percent", [True, False])
@pytest.mark.parametrize("high_pass_hz", [0.0, 0.02])
def test_numbers_are_those_of_nilearn(detrend, percent, high_pass_hz):
    values, moved = noise(120), motion(120)
    made = with_confounds(bold(values, runs=2, chunks=(17, 10)), **moved)
    out = clean_bold(
        made, confounds="motion6", high_pass_hz=high_pass_hz, detrend=detrend,
        percent_signal=percent,
    )["bold/bold"]  # fmt: skip
    assert isinstance(out.data, da.Array)
    assert out.dtype == np.float32
    assert out.attrs["units"] == ("%" if percent else "1")
    table = np.column_stack(list(moved.values()))
    for run in (slice(0, 60), slice(60, 120)):
        expected = cleaned_by_nilearn(
            values[run], confounds=table[run], detrend=detrend, t_r=2.0,
            filter="cosine" if high_pass_hz else False, high_pass=high_pass_hz or None,
            standardize="psc" if percent else None,
        )  # fmt: skip
        np.testing.assert_allclose(out.values[run], expected, rtol=1e-5, atol=2e-4)


def test_equal_to_five_digits_without_the_rounding_of_float32():
    values = noise(60).astype(np.float64)
    made = with_values(bold(values), da.from_array(values, chunks=(13, -1)))
    out = clean_bold(made, high_pass_hz=0.02)["bold/bold"].values
    expected = cleaned_by_nilearn(
        values, detrend=True, t_r=2.0, filter="cosine", high_pass=0.02, standardize="psc"
    )
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-9)


def test_scrubbed_volumes_have_no_say():
    values, moved = noise(60), np.full(60, 0.1)
    moved[[0, 20, 21]] = np.nan, 2.0, 3.0
    wild = values.copy()
    wild[20:22] = np.nan
    made = with_confounds(bold(wild, chunks=(9, 24)), framewise_displacement=moved)
    node = clean_bold(made, high_pass_hz=0.02, detrend=False, scrub_fd_mm=0.5)["bold"]
    kept = node["kept"].values
    assert np.flatnonzero(~kept).tolist() == [20, 21]
    assert np.isnan(node["bold"].values[~kept]).all()
    expected = cleaned_by_nilearn(
        values, sample_mask=np.flatnonzero(kept), detrend=False, t_r=2.0, filter="cosine",
        high_pass=0.02, standardize="psc",
    )  # fmt: skip
    np.testing.assert_allclose(node["bold"].values[kept], expected, rtol=1e-5, atol=2e-4)
    line = clean_bold(made, high_pass_hz=0.0, scrub_fd_mm=0.5, percent_signal=False)["bold"]
    time = np.column_stack([np.ones(60), np.arange(60)])[kept]
    rest = values[kept] - time @ np.linalg.lstsq(time, values[kept], rcond=None)[0]
    np.testing.assert_allclose(line["bold"].values[kept], rest, atol=1e-3)
    again = clean_bold(clean_bold(made, scrub_fd_mm=0.5), high_pass_hz=0.03)["bold"]
    assert np.isfinite(again["bold"].values[kept]).all()
    assert again["bold"].attrs["units"] == "%"


@settings(QUICK, max_examples=10)
@given(rows=st.integers(1, 40), columns=st.integers(1, 24), runs=st.sampled_from([1, 2, 3]))
def test_chunks_do_not_change_numbers(rows, columns, runs):
    values, moved = noise(36), motion(36)
    calls = {"confounds": ["trans_x", "rot_y"], "high_pass_hz": 0.03}
    whole = clean_bold(with_confounds(bold(values, runs=runs), **moved), **calls)
    cut = clean_bold(
        with_confounds(bold(values, runs=runs, chunks=(rows, columns)), **moved), **calls
    )
    np.testing.assert_allclose(
        cut["bold/bold"].values, whole["bold/bold"].values, rtol=1e-5, atol=1e-5
    )


def test_a_run_does_not_touch_the_next():
    values = noise(80)
    other = values.copy()
    other[:40] *= 3
    first, second = (clean_bold(bold(v, runs=2))["bold/bold"].values[40:] for v in (values, other))
    np.testing.assert_array_equal(first, second)


def test_blocks_are_let_go_between_the_two_passes():
    """However long the run, few of its blocks are in memory at a time."""
    held, most, read = [0], [0], [0]

    def block(block_info=None):
        (start, stop), _ = block_info[None]["array-location"]
        part = noise(200)[start:stop].copy()
        held[0] += 1
        read[0] += 1
        most[0] = max(most[0], held[0])
        weakref.finalize(part, lambda: held.__setitem__(0, held[0] - 1))
        return part

    lazy = da.map_blocks(block, chunks=((5,) * 40, (24,)), dtype=np.float32, meta=np.empty((0, 0)))
    out = clean_bold(with_values(bold(noise(200)), lazy), high_pass_hz=0.02)["bold/bold"]
    with dask.config.set(scheduler="synchronous"):
        assert np.isfinite(da.abs(out.data).sum(split_every=2).compute())
    assert read[0] == 80
    assert most[0] <= 6


def test_first_row_of_a_derivative_is_filled_and_other_gaps_are_refused():
    values = noise(40)
    speed = np.random.default_rng(0).normal(size=40)
    speed[0] = np.nan
    filled = np.where(np.isnan(speed), speed[1], speed)
    outs = [
        clean_bold(with_confounds(bold(values), d=d), confounds="d")["bold/bold"].values
        for d in (speed, filled)
    ]
    np.testing.assert_array_equal(*outs)
    speed[5] = np.nan
    with pytest.raises(DataError, match=r"confound d is n/a in 1 volumes"):
        clean_bold(with_confounds(bold(values), d=speed), confounds="d")
    absent = np.full(40, np.nan)
    absent[:20] = np.eye(20)[4]
    made = with_confounds(bold(values, runs=2), motion_outlier00=absent)
    out = clean_bold(made, confounds="scrub", high_pass_hz=0.0)["bold/bold"].values
    np.testing.assert_allclose(out[4], 0, atol=1e-4)


def test_strategies_stand_for_columns():
    names = [*STRATEGIES["motion24"], "csf", "white_matter", "global_signal"]
    names += [f"a_comp_cor_{i:02d}" for i in range(9)]
    made = with_confounds(bold(noise(40)), **{n: np.zeros(40) for n in names})
    assert len(confound_columns(made, ["motion24", "wm_csf", "global", "acompcor"], "x")) == 33
    assert confound_columns(made, "none", "x") == []
    assert confound_columns(made, "scrub", "x") == []
    with pytest.raises(DataError, match=r"no confound motion7; strategies are none, motion6.*csf"):
        confound_columns(made, "motion7", "x")
    with pytest.raises(DataError, match="no node confounds"):
        confound_columns(bold(noise(40)), "motion6", "x")


def test_refusals():
    made = bold(noise(30))
    for options, match in (
        ({"high_pass_hz": 0.24}, "30 volumes count and"),
        ({"high_pass_hz": 0.3}, "high_pass_hz is 0.3"),
        ({"high_pass_hz": -1.0}, "high_pass_hz is -1"),
        ({"scrub_fd_mm": 0.5}, "no node confounds"),
    ):
        with pytest.raises(DataError, match=match):
            clean_bold(made, **options)
    still = with_confounds(made, framewise_displacement=np.full(30, 9.0))
    with pytest.raises(DataError, match="no volume of 0 to 29 counts"):
        clean_bold(still, scrub_fd_mm=0.5)
    with pytest.raises(DataError, match="scrub_fd_mm is 0"):
        clean_bold(still, scrub_fd_mm=0.0)


def test_voxels_of_zero_are_nan_in_percent():
    values = noise(30)
    values[:, 3], values[4, 5] = 0, np.nan
    out = clean_bold(bold(values))["bold/bold"].values
    assert np.flatnonzero(np.isnan(out).any(axis=0)).tolist() == [3, 5]
