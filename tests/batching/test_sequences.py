"""The door to a fit: what is learned before it comes from the training side, and nothing is NaN."""

import numpy as np
import pytest
from counted_session import QUICK, busy, prepared
from hypothesis import given
from hypothesis import strategies as st

from neuropipe.batching.sequences import Source, fit_scaling, stretches, training_sequences
from neuropipe.batching.splits import make_splits
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError

N_BINS = 200


def scaling_of(recordings, windows, **source):
    attached = [attach_windows(r, w) for r, w in zip(recordings, windows, strict=True)]
    return training_sequences(attached, Source(**source))


@QUICK
@given(st.integers(0, 50), st.integers(2, 4))
def test_held_out_data_change_nothing_that_is_fitted(seed, folds):
    """Counts, behaviour and silence of the held-out bins are replaced: the scaling stays."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson([0.05, 0.3, 2.0], (N_BINS, 3))
    speed = rng.normal(size=N_BINS)
    recording = prepared(counts, behavior={"speed": speed})
    [fold, *_] = make_splits(
        {"s": recording}, by="block", folds=folds, seed=seed, buffer_s=0.2
    )["folds"]  # fmt: skip
    held = np.zeros(N_BINS, bool)
    for start, stop in fold["test"]["s"]:
        centre = (np.arange(N_BINS) + 0.5) * 0.1
        held |= (centre >= start) & (centre < stop)
    other = np.where(held[:, None], rng.poisson(40, (N_BINS, 3)), counts)
    changed = prepared(other, behavior={"speed": np.where(held, np.nan, speed)})
    source = {"covariates": ("speed",), "min_spikes": 5}
    parts, scaling = scaling_of([recording], [fold["train"]["s"]], **source)
    parts_changed, scaling_changed = scaling_of([changed], [fold["train"]["s"]], **source)
    for name, value in vars(scaling).items():
        np.testing.assert_array_equal(value, getattr(scaling_changed, name), err_msg=name)
    for one, two in zip(parts, parts_changed, strict=True):
        np.testing.assert_array_equal(one.counts, two.counts)
        np.testing.assert_array_equal(one.covariates, two.covariates)


def test_scaling_is_that_of_the_training_bins():
    speed = np.concatenate([np.arange(100.0), np.full(100, 1e6)])
    parts, scaling = scaling_of(
        [prepared(busy(N_BINS), behavior={"speed": speed})], [[[0, 10]]], covariates=("speed",)
    )
    np.testing.assert_allclose(scaling.covariate_mean, [49.5])
    np.testing.assert_allclose(scaling.covariate_sd, [np.arange(100).std()])
    np.testing.assert_allclose(scaling.rate, busy(N_BINS)[:100].mean(0))
    assert scaling.bin_width_s == pytest.approx(0.1)
    assert [len(p.time) for p in parts] == [100]


def test_units_are_chosen_by_training_spikes():
    counts = np.zeros((N_BINS, 3), int)
    counts[:100, 0] = 1  # fires while training
    counts[100:, 1] = 1  # fires while held out
    counts[:, 2] = 1
    recording = prepared(counts, unit=[7, 8, 9])
    parts, scaling = scaling_of([recording], [[[0, 10]]])
    np.testing.assert_array_equal(scaling.unit, [7, 9])
    assert parts[0].counts.shape == (100, 2)
    held = stretches(attach_windows(recording, [[10, 20]]), Source(), scaling.unit)
    np.testing.assert_array_equal(held[0].counts.sum(0), [0, 100])


def test_a_constant_covariate_does_not_divide_by_zero():
    _, scaling = scaling_of(
        [prepared(busy(N_BINS), behavior={"light": np.zeros(N_BINS)})],
        [[[0, 20]]],
        covariates=("light",),
    )
    np.testing.assert_array_equal(scaling.covariate_sd, [1.0])


@pytest.mark.parametrize("counts", [np.zeros((N_BINS, 2), int), np.ones((N_BINS, 0), int)])
def test_no_unit_left(counts):
    with pytest.raises(DataError, match=r"lower min_spikes|share no unit"):
        scaling_of([prepared(counts)], [[[0, 20]]])


def test_nan_in_behaviour_is_refused_by_name_or_masked():
    still = np.zeros(N_BINS)
    speed = np.arange(N_BINS, dtype=float)
    speed[5:9] = np.nan
    recording = prepared(busy(N_BINS), behavior={"still": still, "speed": speed})
    wanted = {"covariates": ("still", "speed")}
    with pytest.raises(DataError, match="made-7: covariate 'speed' is NaN in 4 of 100 bins"):
        scaling_of([recording], [[[0, 10]]], **wanted)
    parts, scaling = scaling_of([recording], [[[0, 10]]], missing_covariates="mask", **wanted)
    np.testing.assert_array_equal(np.flatnonzero(~parts[0].observed), [5, 6, 7, 8])
    kept = np.delete(np.arange(100.0), [5, 6, 7, 8])
    np.testing.assert_allclose(scaling.covariate_mean, [0, kept.mean()])
    np.testing.assert_allclose(scaling.rate, np.delete(busy(N_BINS)[:100], [5, 6, 7, 8], 0).mean(0))


def test_nan_outside_of_the_windows_or_while_off_is_no_fault():
    speed = np.arange(N_BINS, dtype=float)
    speed[:10] = speed[150:] = np.nan
    observed = np.arange(N_BINS) >= 10
    recording = prepared(busy(N_BINS), behavior={"speed": speed}, observed=observed)
    parts, scaling = scaling_of([recording], [[[0, 15]]], covariates=("speed",))
    np.testing.assert_array_equal(parts[0].observed, observed[:150])
    assert not parts[0].counts[:10].any()  # what was not observed is not silence in the mean
    np.testing.assert_allclose(scaling.rate, busy(N_BINS)[10:150].mean(0))
    assert np.isfinite(scaling.covariate_mean).all()


def test_nan_in_a_signal_is_refused_by_name():
    recording = prepared(busy(N_BINS))
    node = recording["counts"].to_dataset()
    node["trace"] = node["spike_count"].astype(float).where(node["time"] > 1.0)
    node["trace"].attrs = {"units": "1"}
    recording["counts"] = type(recording)(node)
    with pytest.raises(DataError, match=r"counts/trace is NaN between 0\.05 and 9\.95 s"):
        scaling_of([recording], [[[0, 10]]], response="trace")


def test_behaviour_on_another_clock_is_refused():
    recording = prepared(busy(N_BINS), behavior={"speed": np.zeros(N_BINS)})
    node = recording["behavior"].to_dataset()
    recording["behavior"] = type(recording)(node.assign_coords(time=node["time"] + 0.01))
    with pytest.raises(DataError, match="add the step resample_behavior"):
        scaling_of([recording], [[[0, 10]]], covariates=("speed",))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"covariates": ("sped",)}, "no 'sped' in node behavior; it has speed"),
        ({"response": "voltage"}, "response 'voltage' is not in node counts; it has spike_count"),
    ],
)
def test_unknown_variables_list_the_known(source, message):
    recording = prepared(busy(N_BINS), behavior={"speed": np.zeros(N_BINS)})
    with pytest.raises(DataError, match=message):
        scaling_of([recording], [[[0, 10]]], **source)


def test_sessions_with_different_units_use_those_they_share():
    one = prepared(busy(N_BINS, 4), unit=[1, 2, 3, 4], session="a")
    two = prepared(busy(N_BINS, 3, seed=1), unit=[4, 9, 2], session="b")
    parts, scaling = scaling_of([one, two], [[[0, 10]], [[0, 10]]])
    np.testing.assert_array_equal(scaling.unit, [2, 4])
    np.testing.assert_array_equal(parts[0].counts, busy(N_BINS, 4)[:100][:, [1, 3]])
    np.testing.assert_array_equal(parts[1].counts, busy(N_BINS, 3, seed=1)[:100][:, [2, 0]])


def test_sessions_that_do_not_go_together():
    one = prepared(busy(N_BINS), unit=[1, 2, 3], session="a")
    windows = [[[0, 10]], [[0, 10]]]
    with pytest.raises(DataError, match="share no unit"):
        scaling_of([one, prepared(busy(N_BINS), unit=[4, 5, 6], session="b")], windows)
    with pytest.raises(DataError, match=r"session b has bins of 0\.2 s, others of 0\.1 s"):
        scaling_of([one, prepared(busy(N_BINS), unit=[1, 2, 3], width=0.2, session="b")], windows)
    with pytest.raises(DataError, match="subjects m1, m2 share no units"):
        scaling_of([one, prepared(busy(N_BINS), unit=[1, 2, 3], subject="m2")], windows)


def test_a_session_that_lacks_a_training_unit_is_named():
    recording = prepared(busy(N_BINS), unit=[1, 2, 3], session="b")
    with pytest.raises(DataError, match="session b: units 5 of the training data are absent"):
        stretches(recording, Source(), np.array([1, 5]))


def test_nothing_observed_is_refused():
    recording = prepared(busy(N_BINS), observed=np.zeros(N_BINS))
    with pytest.raises(DataError, match="0 observed"):
        scaling_of([recording], [[[0, 10]]], min_spikes=0)


def test_fit_scaling_names_what_it_kept():
    parts = stretches(prepared(busy(N_BINS)), Source(), None)
    scaling, keep = fit_scaling(parts, np.arange(3), 0.1, Source(min_spikes=1))
    assert keep.all()
    np.testing.assert_allclose(scaling.rate, busy(N_BINS).mean(0))


def with_choices(session="a", lost=()):
    recording = prepared(busy(60), trials=[(i, i + 1.0) for i in range(6)], session=session)
    node = recording["trials"].to_dataset()
    choice = np.array([0, 1, 1, 0, 1, 0], float)
    choice[list(lost)] = np.nan
    node["choice"] = ("trial", choice, {"units": "1"})
    node["contrast"] = ("trial", np.arange(6.0), {"units": "1"})
    recording["trials"] = type(recording)(node)
    return recording


def test_one_observation_a_trial():
    source = {"observations": "trials", "response": "choice", "covariates": ("contrast",)}
    recording = with_choices(lost=[1])
    parts, scaling = scaling_of([recording], [[[0, 3], [4, 5]]], min_spikes=0, **source)
    [part] = parts
    np.testing.assert_array_equal(part.covariates[:, 0], [0, 1, 2, 4])
    np.testing.assert_array_equal(part.observed, [True, False, True, True])
    np.testing.assert_allclose(scaling.rate, [2 / 3])
    with pytest.raises(DataError, match="no trial lies inside"):
        scaling_of([recording], [[[40, 50]]], **source)
    with pytest.raises(DataError, match="needs `response`"):
        scaling_of([recording], [[[0, 3]]], observations="trials")
