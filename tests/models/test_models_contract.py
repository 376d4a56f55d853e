"""Every registered model and baseline keeps the same promises, on data of its kind."""

from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain

import numpy as np
import pytest
import torch
import xarray as xr
from planted_words import TINY, words
from shown_sessions import shown

from neuropipe.baselines import BASELINES
from neuropipe.batching.windows import attach_windows
from neuropipe.config import PARAMETERS, parameters_class
from neuropipe.errors import ConfigError, DataError, NeuropipeError, NotFittedError
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
DECODING = {"targets": ("speed",),
            "schedule": {"epochs": 2, "batch_size": 32, "learning_rate": 0.001}}  # fmt: skip
NET = {"training": {"epochs": 1, "batch_size": 16, "learning_rate": 0.001}}
POOL = {"pool_size": 5}
BRIDGE = {**POOL, "hidden": 8, "training": {"epochs": 2}}
SMALL = {**dict.fromkeys(("du_in", "du_in_from_scratch", "du_in_unquantised"), TINY),
         "eegnet": NET, "eeg_conformer": NET,
         "hyperalignment": POOL, "mean_embedding": POOL, "shared_response": POOL,
         "subject_ridge": POOL,
         **dict.fromkeys(("mindbridge", "shuffled_bridge"), BRIDGE),
         "hmm_glm": {"n_states": 2, "link": "sigmoid", "n_restarts": 2, "screen_iterations": 6,
                     "max_iterations": 10},
         "gpfa": {"n_latents": 2, "max_iterations": 5},
         "mm_gpvae": ONE_MODALITY, "unshared_gpvae": ONE_MODALITY,
         "neuroformer": {"width": 16, "layers_past": 1, "layers_state": 1,
                         "training": {"epochs": 1, "batch_size": 32}},
         "ntf_connectome": {"rank": 2, "n_restarts": 2, "max_sweeps": 20, "communities": "none"},
         "plain_cp": {"rank": 2, "max_sweeps": 20},
         "ridge_decoder": {"targets": ("speed",)}, "reduced_rank": {"targets": ("speed",)},
         "mlp_decoder": DECODING, "gru_decoder": DECODING,
         "windowed_correlation": {"rank": 2, "n_restarts": 2},
         "poisson_hmm": {"n_states": 2, "n_restarts": 2}}  # fmt: skip


@dataclass
class Data:
    """A prepared recording, its windows to train and to hold out, and what models read of it."""

    recording: xr.DataTree
    train: np.ndarray
    held: np.ndarray
    node: str
    variable: str

    def sides(self) -> tuple[xr.DataTree, xr.DataTree]:
        return tuple(attach_windows(self.recording, w) for w in (self.train, self.held))

    @property
    def unit(self) -> str:
        return self.recording[self.node][self.variable].dims[1]

    def with_node(self, recording: xr.DataTree, edit) -> xr.DataTree:
        """Return a recording with the node that is read edited."""
        out = recording.copy()
        out[self.node] = xr.DataTree(edit(recording[self.node].to_dataset().load().copy(deep=True)))
        return out

    def elsewhere(self, windows: np.ndarray, **attrs: str) -> xr.DataTree:
        """Return the recording with noise in all nodes but inside of some windows."""
        out, rng = self.recording.copy(), np.random.default_rng(8)
        out.attrs = {**out.attrs, **attrs}
        for name in ("counts", "behavior", "ieeg", "betas"):
            if name not in out.children:
                continue
            node = out[name].to_dataset().load().copy(deep=True)
            time = node["start_time" if name == "betas" else "time"]
            inside = ((time.values[:, None] >= windows[:, 0] - 1e-9)
                      & (time.values[:, None] < windows[:, 1] - 1e-9)).any(1)  # fmt: skip
            for key, value in node.data_vars.items():
                if value.dims[:1] == time.dims and value.dtype.kind in "fiu" and "_time" not in key:
                    noise = rng.permuted(value.values, axis=0) * 3
                    noise[inside] = value.values[inside]
                    node[key] = (value.dims, noise, value.attrs)
            out[name] = xr.DataTree(node)
        return attach_windows(out, windows)

    def changed(self, change) -> xr.DataTree:
        """Return the training side with the variable's values changed in place, as floats."""
        out = self.sides()[0].copy()
        node = self.recording[self.node].to_dataset().load()
        values = node[self.variable].values.astype(float)
        change(values, node["start_time" if self.node == "betas" else "time"].values)
        node[self.variable] = (node[self.variable].dims, values, node[self.variable].attrs)
        out[self.node] = xr.DataTree(node)
        return out


def counted() -> Data:
    drawn, _ = simulate(Plan(n_states=2, n_units=5, n_bins=400, n_sequences=4), seed=3)
    made = apply_steps(drawn, [{"step": "bin_spikes", "bin_width_s": 0.02, "start_s": 0.0}])
    trials = made["trials"]
    edges = np.stack([trials["start_time"].values, trials["stop_time"].values], 1)
    return Data(made, edges[:3], edges[3:], "counts", "spike_count")


def moving() -> Data:
    """The same counts with a behaviour beside them."""
    data = counted()
    made = data.recording
    time = made["counts"]["time"].values
    speed = np.random.default_rng(1).normal(size=len(time)).cumsum()
    made["behavior"] = xr.DataTree(
        xr.Dataset({"speed": ("time", speed, {"units": "m/s"})},
                   {"time": ("time", time, {"units": "s"})})
    )  # fmt: skip
    return data


def spoken() -> Data:
    made, _ = words(3)
    edges = np.stack([made["runs"][f"{end}_time"].values for end in ("start", "stop")], 1)
    return Data(made, edges[:2], edges[2:], "ieeg", "voltage")


def seen() -> Data:
    made = shown([f"n{i}" for i in range(30)], 8)
    return Data(made, np.array([[0.0, 80.0]]), np.array([[80.0, 120.0]]), "betas", "beta")


KINDS = {"ieeg": spoken, "betas": seen, "behavior": moving, "counts": counted}


def kind_of(name: str) -> str:
    """Return which data a model is tried on: what it reads, else counts."""
    return next((kind for kind in KINDS if kind in resolve(name, ALL).reads), "counts")


COUNTED = [name for name in ALL if kind_of(name) == "counts"]
ONE_SESSION = ("gru_decoder", "lagged_correlation", "mlp_decoder", "reduced_rank", "ridge_decoder")
SPIKES = ("gaussian_glm", "hmm_glm", "homogeneous_rate", "neuroformer", "poisson_glm",
          "poisson_hmm")  # fmt: skip


@pytest.fixture(scope="module")
def data() -> dict[str, Data]:
    made = {kind: draw() for kind, draw in KINDS.items()}
    return {name: made[kind_of(name)] for name in ALL}


def make(name: str):
    return resolve(name, ALL)(**SMALL.get(name, {}))


@pytest.fixture(scope="module")
def fitted(data) -> dict:
    return {name: make(name).fit([data[name].sides()[0]], seed=5) for name in ALL}


@pytest.mark.parametrize("name", ALL)
def test_follows_the_protocol_and_declares_what_it_writes(name, fitted, data):
    model = fitted[name]
    assert isinstance(model, Estimator)
    _, held = data[name].sides()
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
def test_saved_and_loaded_it_gives_the_same(name, fitted, data, tmp_path):
    _, held = data[name].sides()
    fitted[name].save(tmp_path)
    again = type(fitted[name]).load(tmp_path)
    assert again.config == fitted[name].config
    assert again.score(held) == fitted[name].score(held)
    xr.testing.assert_identical(again.transform(held), fitted[name].transform(held))


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_numbers(name, fitted, data):
    again = make(name).fit([data[name].sides()[0]], seed=5)
    xr.testing.assert_identical(again.parameters_, fitted[name].parameters_)


@pytest.mark.parametrize("name", ALL)
def test_what_lies_outside_the_windows_changes_nothing(name, fitted, data):
    """Neither a fit nor a score looks beyond its side of a fold, whatever node it reads."""
    own, model = data[name], fitted[name]
    _, held = own.sides()
    again = make(name).fit([own.elsewhere(own.train)], seed=5)
    xr.testing.assert_identical(again.parameters_, model.parameters_)
    xr.testing.assert_identical(again.transform(held), model.transform(held))
    spoilt = own.elsewhere(own.held)
    assert model.score(spoilt) == model.score(held)
    xr.testing.assert_identical(model.transform(spoilt), model.transform(held))


@pytest.mark.parametrize("name", [n for n in ALL if kind_of(n) != "betas"])
def test_units_are_known_by_name_not_by_place(name, fitted, data):
    own = data[name]
    _, held = own.sides()
    turned = own.with_node(held, lambda node: node.isel({own.unit: slice(None, None, -1)}))
    assert fitted[name].score(turned) == fitted[name].score(held)


@pytest.mark.parametrize("name", [n for n in ALL if kind_of(n) not in ("betas", "ieeg")])
def test_names_of_units_may_be_words(name, data, tmp_path):
    own = data[name]

    def named(node):
        words = np.array([f"unit {u}" for u in node["unit"].values], dtype=object)
        return node.assign_coords(unit=("unit", words, {"units": ""}))

    train, held = (own.with_node(side, named) for side in own.sides())
    model = make(name).fit([train], seed=5)
    model.save(tmp_path)
    again = type(model).load(tmp_path)
    assert again.score(held) == model.score(held)
    xr.testing.assert_identical(again.transform(held), model.transform(held))


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_sessions_means_nothing(name, data):
    """Those that take one session only say so."""
    own = data[name]
    one, two = own.sides()[0], own.elsewhere(own.held, session="earlier")
    two = attach_windows(two, own.train)
    if name in ONE_SESSION:
        with pytest.raises(DataError, match="2 sessions, expected one"):
            make(name).fit([one, two], seed=5)
        return
    first = make(name).fit([one, two], seed=5)
    xr.testing.assert_identical(make(name).fit([two, one], seed=5).parameters_, first.parameters_)


@pytest.mark.parametrize("name", ALL)
def test_a_fit_leaves_the_random_numbers_of_others_alone(name, fitted, data):
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    make(name).fit([data[name].sides()[0]], seed=5)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("name", SPIKES)
def test_a_score_without_a_value_is_told(name, fitted, data, caplog):
    own = data[name]
    silent = own.with_node(own.sides()[1], lambda node: node.assign(
        spike_count=node["spike_count"] * 0
    ))  # fmt: skip
    assert np.isnan(fitted[name].score(silent)["bits_per_spike"])
    assert "no value of bits_per_spike: the scored windows hold no spike" in caplog.text


@pytest.mark.parametrize("name", ALL)
def test_a_nan_is_refused_by_name(name, data):
    own = data[name]

    def lose(values, time):
        values[np.searchsorted(time, own.train[0, 0]) + 10, 2] = np.nan

    with pytest.raises(NeuropipeError, match=f"{own.node}/{own.variable}"):
        make(name).fit([own.changed(lose)], seed=5)


@pytest.mark.parametrize("name", COUNTED)
def test_no_unit_left_is_refused(name, data):
    settings = {**SMALL.get(name, {}), "min_spikes": 10**6}
    with pytest.raises(DataError, match=r"none of 5 units has 1000000 spikes"):
        resolve(name, ALL)(**settings).fit([data[name].sides()[0]], seed=5)


def test_spikes_are_scored_on_the_same_bins_by_all(fitted, data):
    """Each score implies the likelihood of the null model on its bins, which is one for all."""
    own = data["hmm_glm"]

    def holes(node):
        observed = np.arange(node.sizes["time"]) % 7 > 0
        return node.assign(observed=("time", observed, {"units": "1"}))

    held = own.with_node(own.sides()[1], holes)
    node = held["counts"].to_dataset()
    seen = (node["time"].values >= own.held[0, 0]) & node["observed"].values
    a_bin = node["spike_count"].values[seen].sum() / seen.sum()
    null = {}
    for name in SPIKES:
        score = fitted[name].score(held)
        gain = score["bits_per_spike"] * a_bin * np.log(2)
        null[name] = score["log_likelihood_per_bin"] - gain
    assert null == pytest.approx(dict.fromkeys(SPIKES, null["homogeneous_rate"]))


@pytest.mark.parametrize("name", ALL)
def test_misuse_in_a_script_is_told(name, data, tmp_path):
    train, held = data[name].sides()
    for use in (lambda m: m.score(held), lambda m: m.transform(held), lambda m: m.save(tmp_path)):
        with pytest.raises(NotFittedError, match="fit"):
            use(make(name))
    with pytest.raises(DataError, match="found a DataTree, expected a list of recordings"):
        make(name).fit(train, seed=5)
    with pytest.raises(DataError, match=r"no recording to fit|0 sessions, expected one"):
        make(name).fit([], seed=5)


@pytest.mark.parametrize("name", ALL)
def test_its_settings_are_known_to_the_configuration(name):
    assert parameters_class(name) is type(make(name).config)


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_setting_is_an_error_of_ours(name):
    with pytest.raises(ConfigError, match=rf"{resolve(name, ALL).__name__}: unknown key 'nonsens'"):
        resolve(name, ALL)(nonsens=1)


def test_registries_agree_and_unknown_names_list_the_known():
    assert set(PARAMETERS) == {*MODELS, *BASELINES}
    assert set(MODELS) <= set(SIMULATORS)
    with pytest.raises(ConfigError, match=r"did you mean 'hmm_glm'\?"):
        resolve("hmm_gml", ALL)
    assert len(set(chain(MODELS, BASELINES))) == len(MODELS) + len(BASELINES)
