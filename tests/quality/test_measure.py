"""Every check finds the fault that was planted, and is silent where there is none."""

import ast
import inspect

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from planted_faults import PLANTED, bold, calcium, clock, ieeg, spikes, tree

from neuropipe.quality import CHECKS, COLUMNS, measure
from neuropipe.quality.stream import blocks
from neuropipe.quality.thresholds import LEVELS, Thresholds
from neuropipe.registry import resolve
from neuropipe.runs import named_runs
from neuropipe.schema import validate


def table(recording, **levels):
    checks = measure(recording, Thresholds(**levels))
    assert tuple(checks.columns) == COLUMNS
    return checks.set_index(["node", "item", "check"])


# What was planted, and the verdict on it.
FOUND = {
    "spikes": {
        ("spikes", "13", "isi_violations"): "WARN",
        ("spikes", "14", "rate_drift"): "WARN",
        ("spikes", "14", "presence"): "WARN",
        ("spikes", "15", "unit_rate_hz"): "WARN",
        ("spikes", "all", "isi_violations_failing"): "PASS",
        ("behavior/gaze", "x", "tracked_share"): "WARN",
        ("trials", "all", "na_onset_share"): "WARN",
        ("trials", "all", "overlap_share"): "WARN",
        ("trials", "all", "outside_share"): "WARN",
    },
    "ieeg": {
        ("ieeg", "c1", "flat_share"): "WARN",
        ("ieeg", "c2", "clipped_share"): "WARN",
        ("ieeg", "c3", "line_ratio"): "WARN",
        ("ieeg", "c4", "amplitude_z"): "WARN",
        ("ieeg", "c5", "missing_share"): "WARN",
        ("ieeg", "all", "bad_channel_share"): "WARN",
        ("ieeg", "all", "gap_share"): "WARN",
    },
    "bold": {
        ("bold", "run 2", "tsnr_median"): "WARN",
        ("bold", "run 2", "tsnr_low_share"): "WARN",
        ("bold", "run 2", "dummy_jump"): "FAIL",
        ("bold", "run 2", "dvars_share"): "WARN",
        ("bold", "run 1", "zero_variance_share"): "WARN",
        ("bold", "run 2", "nan_voxel_share"): "WARN",
        ("confounds", "run 2", "fd_mean_mm"): "WARN",
        ("confounds", "run 2", "fd_share"): "FAIL",
    },
    "calcium": {
        ("calcium/ca1", "0", "roi_snr"): "WARN",
        ("calcium/ca1", "1", "clipped_share"): "WARN",
        ("calcium/ca1", "2", "missing_share"): "WARN",
        ("calcium/ca1", "all", "clock_residual_ms"): "FAIL",
    },
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_faults_are_found_and_nothing_else(kind):
    checks = table(PLANTED[kind]())
    for key, verdict in FOUND[kind].items():
        assert checks.loc[key, "verdict"] == verdict, (key, checks.loc[key].to_dict())
    blamed = {key for key, row in checks.iterrows() if row["verdict"] != "PASS"}
    unasked = blamed - set(FOUND[kind])
    # a fault may show in more than one number of the same channel, unit or run
    assert {key[:2] for key in unasked} <= {key[:2] for key in FOUND[kind]}, unasked


@pytest.mark.parametrize("kind", PLANTED)
def test_a_sound_recording_passes(kind):
    recording = PLANTED[kind](faults=False)
    validate(recording, *(n for n in (g.lstrip("/") for g in recording.groups)
                          if n and recording[n].variables))  # fmt: skip
    checks = table(recording)
    assert (checks["verdict"] == "PASS").all(), checks[checks["verdict"] != "PASS"][
        "reason"
    ].tolist()


@pytest.mark.parametrize("kind", PLANTED)
def test_numbers_do_not_know_the_chunks(kind):
    recording = PLANTED[kind]()
    whole = recording.map_over_datasets(lambda dataset: dataset.load())
    np.testing.assert_allclose(
        table(recording)["value"].astype(float), table(whole)["value"].astype(float), rtol=1e-3,
        atol=1e-6,
    )  # fmt: skip


def test_numbers_written_out():
    checks = table(bold())
    data = bold()["bold/bold"].values.astype(float)[:60]
    live = data.std(0) > 0
    tsnr = data.mean(0)[live] / data.std(0)[live]
    found = checks.loc[("bold", "run 1", "tsnr_median"), "value"]
    np.testing.assert_allclose(found, np.median(tsnr), rtol=1e-6)
    trains = spikes()
    time = trains["spikes/spike_time"].values[trains["spikes/unit_index"].values == 3]
    share = (np.diff(time) < 0.0015).mean()
    checks = table(trains)
    np.testing.assert_allclose(checks.loc[("spikes", "13", "isi_violations"), "value"], share)
    assert checks.loc[("spikes", "13", "isi_violations"), "units"] == "1"
    reason = checks.loc[("spikes", "13", "isi_violations"), "reason"]
    assert reason.startswith("found 0.1")
    assert "above the fail level 0.05, a warning for one of many: spikes of other" in reason


def test_levels_are_the_users():
    gap = ("ieeg", "all", "gap_share")
    assert table(ieeg(), gap_share=[0.5, 0.9]).loc[gap, "verdict"] == "PASS"
    assert table(ieeg(), gap_share=[0.01, 0.02]).loc[gap, "verdict"] == "FAIL"


def test_many_bad_channels_fail_the_recording():
    recording = ieeg()
    node = recording["ieeg"].to_dataset()
    node["voltage"] = node["voltage"] * (np.arange(12) > 8)
    node["voltage"].attrs["units"] = "V"
    recording["ieeg"].dataset = node
    failing = table(recording).loc[("ieeg", "all", "flat_share_failing")]
    assert failing["verdict"] == "FAIL"
    assert "9 of 12 channels have a flat_share above 0.5" in failing["reason"]


def test_volts_that_are_microvolts():
    recording = ieeg(faults=False)
    node = recording["ieeg"].to_dataset()
    node["voltage"] = (node["voltage"].dims, node["voltage"].data * 1e6, {"units": "V"})
    recording["ieeg"].dataset = node
    loud = table(recording).loc[("ieeg", "all", "amplitude_uv")]
    assert loud["verdict"] == "FAIL"
    assert "mend them in a copy" in loud["reason"]


def test_clocks():
    node = xr.Dataset({"x": ("time", np.ones(100), {"units": "m"})}, clock(100, 10.0))
    node = node.assign_coords(time=("time", np.r_[0.0, np.arange(99) / 10], {"units": "s"}))
    checks = table(tree(behavior__p=node.assign_attrs(sampling_rate_hz=11.0)))
    assert checks.loc[("behavior/p", "all", "repeated_times"), "verdict"] == "FAIL"
    assert checks.loc[("behavior/p", "all", "rate_error"), "verdict"] == "FAIL"
    assert checks.loc[("behavior/p", "all", "gap_share"), "value"] == 0


def test_empty_nodes_and_empty_recordings_have_no_rows():
    assert table(tree()).empty
    empty = xr.Dataset({"spike_time": ("spike", np.zeros(0), {"units": "s"}),
                        "unit_index": ("spike", np.zeros(0, int), {"units": "1"})})  # fmt: skip
    assert table(tree(spikes=empty)).empty
    node = xr.Dataset({"voltage": (("time", "channel"), np.zeros((0, 2)), {"units": "V"})},
                      clock(0, 10.0))  # fmt: skip
    assert table(tree(ephys__lfp=node)).empty


def test_a_recording_all_nan_or_a_single_sample_is_told():
    nothing = calcium()
    node = nothing["calcium/ca1"].to_dataset()
    node["fluorescence"] = node["fluorescence"] * np.nan
    nothing["calcium/ca1"].dataset = node
    checks = table(nothing)
    assert checks.loc[("calcium/ca1", "all", "missing_share_failing"), "verdict"] == "FAIL"
    one = ieeg()
    one["ieeg"].dataset = one["ieeg"].to_dataset().isel(time=slice(0, 1))
    assert not table(one).empty


def test_memory_is_that_of_a_block(monkeypatch):
    """No more than a block is asked for at a time, however long the run."""
    monkeypatch.setattr("neuropipe.quality.stream.BLOCK_BYTES", 16000)
    monkeypatch.setattr("neuropipe.quality.stream.PART_BYTES", 8000)
    array = xr.DataArray(da.zeros((1000, 10), chunks=(300, -1)), dims=("time", "channel"))
    sizes = [len(block) for block in blocks(array, slice(50, 990))]
    assert sum(sizes) == 940
    assert max(sizes) == 100


def test_runs_of_a_long_lazy_clock():
    recording = bold()
    assert named_runs(recording, "bold") == [("run 1", slice(0, 60)), ("run 2", slice(60, 120))]


def test_every_check_and_level_is_in_use():
    sources = [inspect.getsource(inspect.getmodule(resolve(n, CHECKS, "check"))) for n in CHECKS]
    text = {
        node.value
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(LEVELS) - {"failing_share"} <= text
    for name in CHECKS:
        assert list(inspect.signature(resolve(name, CHECKS, "c")).parameters) == [
            "recording", "thresholds"
        ]  # fmt: skip


def test_every_level_says_units_and_meaning():
    for name, field in Thresholds.model_fields.items():
        assert field.description, name
    with pytest.raises(ValueError, match=r"(?s)fd_mm.*greater than 0"):
        Thresholds(fd_mm=0)
    with pytest.raises(ValueError, match=r"tsnr_median: found \[5, 20\], expected .* the larger"):
        Thresholds(tsnr_median=(5, 20))
