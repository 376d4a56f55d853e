"""Every registered model and baseline keeps the same promises."""

from importlib.util import find_spec
from itertools import chain

import numpy as np
import pytest
import xarray as xr

from neuropipe.baselines import BASELINES
from neuropipe.batching.windows import attach_windows
from neuropipe.config import PARAMETERS, parameters_class
from neuropipe.errors import ConfigError, DataError, NeuropipeError
from neuropipe.metrics import UNITS
from neuropipe.models import MODELS, SIMULATORS, Estimator, resolve
from neuropipe.models.hmm_glm.simulate import Plan, simulate
from neuropipe.preprocess import apply_steps
from neuropipe.schema import faults_of_dataset

NEEDS = {"gpfa": "elephant"}
ALL = {
    name: where
    for name, where in {**MODELS, **BASELINES}.items()
    if find_spec(NEEDS.get(name, "numpy")) is not None
}
ONE_MODALITY = {"modalities": "neural", "n_shared": 0, "n_neural": 2, "n_behavior": 0,
                "n_restarts": 1, "max_bins": 100,
                "training": {"epochs": 3, "batch_size": 4, "learning_rate": 0.01}}  # fmt: skip
SMALL = {"hmm_glm": {"n_states": 2, "link": "sigmoid", "n_restarts": 2, "screen_iterations": 6,
                     "max_iterations": 10},
         "gpfa": {"n_latents": 2, "max_iterations": 5},
         "mm_gpvae": ONE_MODALITY, "unshared_gpvae": ONE_MODALITY,
         "neuroformer": {"width": 16, "layers_past": 1, "layers_state": 1,
                         "training": {"epochs": 1, "batch_size": 32}},
         "ntf_connectome": {"rank": 2, "n_restarts": 2, "max_sweeps": 20, "communities": "none"},
         "plain_cp": {"rank": 2, "max_sweeps": 20},
         "windowed_correlation": {"rank": 2, "n_restarts": 2},
         "poisson_hmm": {"n_states": 2, "n_restarts": 2}}  # fmt: skip


@pytest.fixture(scope="module")
def recording() -> xr.DataTree:
    drawn, _ = simulate(Plan(n_states=2, n_units=5, n_bins=400, n_sequences=4), seed=3)
    return apply_steps(drawn, [{"step": "bin_spikes", "bin_width_s": 0.02, "start_s": 0.0}])


def halves(recording: xr.DataTree) -> tuple[xr.DataTree, xr.DataTree]:
    trials = recording["trials"]
    edges = np.stack([trials["start_time"].values, trials["stop_time"].values], 1)
    return attach_windows(recording, edges[:3]), attach_windows(recording, edges[3:])


def make(name: str):
    return resolve(name, ALL)(**SMALL.get(name, {}))


@pytest.fixture(scope="module")
def fitted(recording: xr.DataTree) -> dict:
    train, _ = halves(recording)
    return {name: make(name).fit([train], seed=5) for name in ALL}


@pytest.mark.parametrize("name", ALL)
def test_follows_the_protocol_and_declares_what_it_writes(name, fitted, recording):
    model = fitted[name]
    assert isinstance(model, Estimator)
    _, held = halves(recording)
    estimates = model.transform(held)
    assert faults_of_dataset(estimates, model.writes, name) == []
    assert faults_of_dataset(model.parameters_, model.learns, name) == []
    assert model.history_["objective"].sizes["step"] >= 1
    start, stop = held["windows"]["start_time"].values[0], held["windows"]["stop_time"].values[0]
    time = estimates["time"].values
    assert start <= time.min()
    assert time.max() < stop
    scores = model.score(held)
    assert set(scores) <= set(UNITS)
    assert all(np.isfinite(value) for value in scores.values())


@pytest.mark.parametrize("name", ALL)
def test_saved_and_loaded_it_gives_the_same(name, fitted, recording, tmp_path):
    _, held = halves(recording)
    fitted[name].save(tmp_path)
    again = type(fitted[name]).load(tmp_path)
    assert again.config == fitted[name].config
    assert again.score(held) == fitted[name].score(held)
    xr.testing.assert_identical(again.transform(held), fitted[name].transform(held))


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_numbers(name, fitted, recording):
    train, _ = halves(recording)
    again = make(name).fit([train], seed=5)
    xr.testing.assert_identical(again.parameters_, fitted[name].parameters_)


@pytest.mark.parametrize("name", ALL)
def test_held_out_data_change_nothing_that_is_fitted(name, fitted, recording):
    train, held = halves(recording)
    changed = train.copy()
    counts = train["counts"].to_dataset().load().copy(deep=True)
    start = held["windows"]["start_time"].values[0]
    counts["spike_count"].values[counts["time"].values >= start] += 7
    changed["counts"] = xr.DataTree(counts)
    again = make(name).fit([changed], seed=5)
    xr.testing.assert_identical(again.parameters_, fitted[name].parameters_)


@pytest.mark.parametrize("name", ALL)
def test_a_nan_count_is_refused_by_name(name, recording):
    train, _ = halves(recording)
    broken = train.copy()
    counts = train["counts"].to_dataset().load()
    values = counts["spike_count"].values.astype(float)
    values[10, 2] = np.nan
    counts["spike_count"] = (("time", "unit"), values, counts["spike_count"].attrs)
    broken["counts"] = xr.DataTree(counts)
    with pytest.raises(NeuropipeError, match=r"counts/spike_count"):
        make(name).fit([broken], seed=5)


@pytest.mark.parametrize("name", ALL)
def test_no_unit_left_is_refused(name, recording):
    settings = {**SMALL.get(name, {}), "min_spikes": 10**6}
    with pytest.raises(DataError, match=r"none of 5 units has 1000000 spikes"):
        resolve(name, ALL)(**settings).fit([halves(recording)[0]], seed=5)


@pytest.mark.parametrize("name", ALL)
def test_its_settings_are_known_to_the_configuration(name):
    assert parameters_class(name) is type(make(name).config)


def test_registries_agree_and_unknown_names_list_the_known():
    assert set(PARAMETERS) == {*MODELS, *BASELINES}
    assert set(MODELS) <= set(SIMULATORS)
    with pytest.raises(ConfigError, match=r"did you mean 'hmm_glm'\?"):
        resolve("hmm_gml", ALL)
    assert len(set(chain(MODELS, BASELINES))) == len(MODELS) + len(BASELINES)
