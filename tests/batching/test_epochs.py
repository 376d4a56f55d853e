"""Voltages of a fold: nothing from outside, trials whole, contacts from training only."""

import json

import numpy as np
import pytest
import xarray as xr
from scipy.stats import f_oneway

from neuropipe.batching.contacts import band_features, discriminability
from neuropipe.batching.door import Door, enter
from neuropipe.batching.epochs import VoltageSource, part, read
from neuropipe.batching.splits import make_splits
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError
from neuropipe.models.du_in.simulate import Plan, simulate
from neuropipe.preprocess import apply_steps

SMALL = {
    "n_words": 4, "n_repetitions": 6, "n_runs": 2, "n_channels": 9, "n_speech": 4, "n_bad": 0,
    "n_units": 6, "word_units": 4, "lead_units": 4, "snr": 4.0,
}  # fmt: skip
CUT = [{"step": "cut_trials", "table": "events", "before_s": 0.1, "after_s": 0.5}]


def session(seed: int = 3, **plan) -> tuple[xr.DataTree, xr.Dataset]:
    drawn, truth = simulate(Plan(**{**SMALL, **plan}), seed)
    return apply_steps(drawn, CUT), truth


@pytest.fixture(scope="module")
def drawn() -> tuple[xr.DataTree, xr.Dataset]:
    return session()


def sides(recording: xr.DataTree, by: str) -> tuple[xr.DataTree, xr.DataTree]:
    fold = make_splits({"a": recording}, by=by, folds=2, seed=0)["folds"][0]
    return tuple(attach_windows(recording, fold[side]["a"]) for side in ("train", "test"))


def changed(recording: xr.DataTree, change) -> xr.DataTree:
    out = recording.copy()
    node = recording["ieeg"].to_dataset().load().copy(deep=True)
    change(node["voltage"].values, node["time"].values)
    out["ieeg"] = xr.DataTree(node)
    return out


@pytest.mark.parametrize("by", ["trial", "run", "block"])
def test_only_the_folds_windows_are_read_and_trials_are_whole(drawn, by):
    recording, _ = drawn
    train, held = sides(recording, by)
    other = held["windows"].to_dataset()

    def spoil(voltage, time):
        for a, b in zip(other["start_time"].values, other["stop_time"].values, strict=True):
            voltage[(time >= a - 1e-6) & (time < b - 1e-6)] = np.nan

    source = VoltageSource(n_channels=4)
    door, found = enter([changed(train, spoil)], source, 0.1)
    again, clean = enter([train], source, 0.1)
    assert door.saved() == again.saved()
    np.testing.assert_array_equal(found[0].value, clean[0].value)
    v = found[0]
    assert door.n_samples == 600
    assert (v.extent == 600).all()
    trials = recording["trials"].to_dataset()
    start = trials["start_time"].values
    row = np.array([np.flatnonzero(np.isclose(start, t))[0] for t in v.seconds(v.onset)])
    assert (v.label == trials["trial_type"].values[row].astype(str)).all()
    inside = np.zeros(len(start), bool)
    window = train["windows"].to_dataset()
    for a, b in zip(window["start_time"].values, window["stop_time"].values, strict=True):
        inside |= (start >= a - 1e-6) & (trials["stop_time"].values <= b + 1e-6)
    assert sorted(row) == np.flatnonzero(inside).tolist()


def test_the_order_of_the_trials_table_is_no_matter(drawn):
    recording, _ = drawn
    train, _ = sides(recording, "run")
    mixed = train.copy()
    trials = train["trials"].to_dataset().load()
    order = np.random.default_rng(0).permutation(trials.sizes["trial"])
    mixed["trials"] = xr.DataTree(trials.isel(trial=order))
    one, other = (read(r, VoltageSource()) for r in (train, mixed))
    assert (np.diff(one.onset) > 0).all()
    for name in ("onset", "extent", "label"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_values_are_the_recording_in_training_deviations(drawn):
    recording, _ = drawn
    train, held = sides(recording, "run")
    door, found = enter([train], VoltageSource())
    raw, time = recording["ieeg"]["voltage"].values, recording["ieeg"]["time"].values
    edge = train["windows"].to_dataset()
    inside = (time >= edge["start_time"].values[0]) & (time < edge["stop_time"].values[0])
    mean, sd = raw[inside].mean(0, dtype=float), raw[inside].std(0, dtype=float)
    np.testing.assert_allclose(found[0].value.std(0), 1, rtol=1e-4)
    v = door.read(held)
    first = np.searchsorted(time, v.seconds(v.onset) - 1e-6)
    want = (raw[first[:, None] + np.arange(600)] - mean) / sd
    np.testing.assert_allclose(v.trials(600), want, rtol=1e-3, atol=1e-4)
    again = Door.of(json.loads(json.dumps(door.saved())))
    np.testing.assert_array_equal(again.read(held).value, v.value)
    assert again.saved() == door.saved()


def test_stretches_end_with_runs_and_windows_stay_inside(drawn):
    recording, _ = drawn
    v = read(recording.filter(lambda node: node.name != "trials"), VoltageSource())
    runs = recording["runs"].to_dataset()
    np.testing.assert_allclose(v.begin_s, runs["start_time"].values, atol=1e-9)
    starts = v.starts(500, 250)
    stretch = np.searchsorted(v.edge[:, 0], starts, side="right") - 1
    assert (starts + 500 <= v.edge[stretch, 1]).all()
    assert not len(v.onset)


@pytest.mark.parametrize("trial_s", [None, 0.5])
def test_trials_that_the_recording_does_not_hold_are_left_out(drawn, trial_s):
    recording, _ = drawn
    time = recording["ieeg"]["time"].values
    out = recording.copy()
    table = recording["trials"].to_dataset().load().copy(deep=True)
    table["start_time"][0], table["stop_time"][0] = time[0] - 0.1, time[0] + 0.5
    table["start_time"][-1], table["stop_time"][-1] = time[-1] - 0.3, time[-1] + 0.3
    out["trials"] = xr.DataTree(table)
    found = read(out, VoltageSource(trial_s=trial_s))
    assert len(found.onset) == table.sizes["trial"] - 2
    assert np.ptp(found.extent) <= 1


@pytest.mark.parametrize("decimal", [0.1, 0.3, 0.7, 1.1])
def test_decimals_cost_no_sample(decimal):
    """Start and stop as sums of decimals fall a hair beside the clock."""
    drawn, _ = session()
    starts = decimal + 0.1 * np.arange(20) * 3
    trials = xr.Dataset(
        {"start_time": ("trial", starts), "stop_time": ("trial", starts + 0.3),
         "trial_type": ("trial", np.array(["a", "b"] * 10, dtype=object))}
    )  # fmt: skip
    drawn["trials"] = xr.DataTree(trials)
    windows = np.stack([starts, starts + 0.3], 1)[::2]
    found = read(attach_windows(drawn, windows), VoltageSource())
    assert found.extent.tolist() == [300] * 10


def test_the_contacts_that_carry_words_are_chosen_from_training_alone():
    recording, truth = session(n_repetitions=16, snr=2.0, jitter_s=0.03)
    train, _ = sides(recording, "run")
    door, _ = enter([train], VoltageSource(n_channels=4), 0.1)
    names = truth["channel"].values[truth["is_speech"].values]
    assert door.channel["planted"] == tuple(names)


def test_f_is_the_analysis_of_variance_and_power_that_of_a_sine():
    rng = np.random.default_rng(0)
    label = np.array(list("aabbbcc"))
    features = rng.normal(size=(7, 2, 3, 1))
    want = [
        np.mean([f_oneway(*(features[label == k, c, b, 0] for k in "abc")).statistic
                 for b in range(3)])
        for c in range(2)
    ]  # fmt: skip
    np.testing.assert_allclose(discriminability(features, label), want)
    t = np.arange(1000) / 500
    wave = 3 * np.sin(2 * np.pi * 20 * t)[None, :, None]
    power = np.exp(band_features(wave, 500.0))
    np.testing.assert_allclose(power[0, 0, 1], 4.5, rtol=1e-4)  # 12 to 30 Hz
    assert power[0, 0, [0, 2, 3]].max() < 1e-6


def test_validation_lies_apart_from_what_is_fitted(drawn):
    recording, _ = drawn
    for by, share in (("run", 0.2), ("trial", 0.25)):
        train, _ = sides(recording, by)
        _, found = enter([train], VoltageSource(), 0.1)
        fitted, validating = part(found, share, 500, seed=1)
        a, b = fitted[0], validating[0]
        taken = np.zeros(len(found[0].value), int)
        for v in (a, b):
            for first, last in v.edge:
                taken[first:last] += 1
        assert (taken == 1).all()
        got = (b.edge[:, 1] - b.edge[:, 0]).sum() / len(taken)
        assert got == pytest.approx(share, abs=0.06)
        assert len(b.onset) > 0
        assert not set(a.onset) & set(b.onset)
        np.testing.assert_allclose(b.seconds(b.onset), found[0].seconds(b.onset))
    with pytest.raises(DataError, match="too few stretches"):
        part([a.only(a.edge[:1])], 0.5, 10**6, seed=1)


def drop(recording, name):
    return recording.filter(lambda node: node.name != name)


def labelled(recording, labels):
    out = recording.copy()
    node = recording["trials"].to_dataset().load()
    node["trial_type"] = ("trial", np.array(labels, dtype=object))
    out["trials"] = xr.DataTree(node)
    return out


@pytest.mark.parametrize(
    ("spoil", "source", "said"),
    [
        (lambda r: changed(r, lambda v, t: v.__setitem__((500, 2), np.nan)), {},
         r"ieeg/voltage of channel 'A3' is not finite"),
        (lambda r: changed(r, lambda v, t: v.__setitem__((slice(None), 1), 5.0)), {},
         "channel 'A2' is constant"),
        (lambda r: r, {"labels": "word"}, r"no column 'word'; it has .*trial_type"),
        (lambda r: drop(r, "trials"), {}, "no trial with a label"),
        (lambda r: labelled(r, ["n/a"] * 24), {}, "no trial with a label"),
        (lambda r: labelled(r, ["a"] * 24), {}, "have 1 labels .* expected at least 2"),
        (lambda r: r, {"trial_s": 0.05}, "less than a patch"),
        (lambda r: r, {"trial_s": 500.0}, "no trial with a label"),
    ],
)  # fmt: skip
def test_unfit_recordings_are_refused(drawn, spoil, source, said):
    with pytest.raises(DataError, match=said):
        enter([spoil(drawn[0])], VoltageSource(**source), 0.1)


def test_sessions_that_do_not_belong_together_are_refused(drawn):
    recording, _ = drawn
    door, _ = enter([recording], VoltageSource(), 0.1)
    other = recording.copy()
    other.attrs = {**recording.attrs, "subject": "s9"}
    with pytest.raises(DataError, match="subject 's9' was not in the training data"):
        door.read(other)
    fewer = recording.copy()
    fewer["ieeg"] = xr.DataTree(recording["ieeg"].to_dataset().isel(channel=slice(1, None)))
    with pytest.raises(DataError, match="lacks the contact 'A1'"):
        door.read(fewer)
    with pytest.raises(DataError, match="differ in their channels"):
        enter([recording, fewer], VoltageSource(), 0.1)
    slow = recording.copy()
    node = recording["ieeg"].to_dataset().isel(time=slice(None, None, 2))
    slow["ieeg"] = xr.DataTree(node.assign_attrs(sampling_rate_hz=500.0))
    with pytest.raises(DataError, match="500 samples a second, others 1000"):
        enter([recording, slow], VoltageSource(), 0.1)
    with pytest.raises(DataError, match=r"sampling_rate_hz\s+says 1000"):
        read(_rated(slow, 1000.0), VoltageSource())
    with pytest.raises(DataError, match="no recording"):
        enter([], VoltageSource())


def _rated(recording, rate):
    out = recording.copy()
    out["ieeg"] = xr.DataTree(recording["ieeg"].to_dataset().assign_attrs(sampling_rate_hz=rate))
    return out
