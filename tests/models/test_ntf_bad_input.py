"""Animals that show too little, and graphs that fall apart: a clear error, or the right answer."""

import numpy as np
import pytest
import xarray as xr
from planted_groups import animals

from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError
from neuropipe.models.ntf_connectome.config import Config
from neuropipe.models.ntf_connectome.estimator import NTFConnectome
from neuropipe.models.ntf_connectome.motifs import motif_labels

QUICK = {"communities": "none", "tolerance": 1e-5, "n_restarts": 2}


@pytest.fixture(scope="module")
def pair():
    return animals(6, n_animals=2, n_units=12, n_groups=2)[0]


def edited(recording, edit):
    """Return a copy with its traces (time, neuron) edited in place, or its node replaced."""
    out = recording.copy()
    node = recording["calcium/cells"].to_dataset().copy(deep=True)
    found = edit(node)
    out["calcium/cells"] = xr.DataTree(node if found is None else found)
    return out


def fitted(recordings, rank=2, **settings):
    return NTFConnectome(rank=rank, **QUICK | settings).fit(recordings, seed=0)


def finite(dataset):
    return all(np.isfinite(v).all() for v in dataset.data_vars.values() if v.dtype.kind == "f")


def test_two_windows_are_a_fit_and_one_is_not(pair):
    short = [attach_windows(r, [(0, 0.5)]) for r in pair]
    p = fitted(short).parameters_
    assert p.sizes["window"] == 2
    assert finite(p)
    assert float(p["explained_variance"]) == pytest.approx(1, abs=1e-6)
    with pytest.raises(DataError, match="no stretch of two windows"):
        fitted([attach_windows(r, [(0, 0.25)]) for r in pair])
    with pytest.raises(DataError, match="rank 3 is above 2, the most"):
        fitted(short[:1], rank=3)


def test_two_neurons_are_one_pair(pair):
    two = [edited(r, lambda node: node.isel(roi=[0, 1])) for r in pair]
    p = fitted(two, rank=1, communities="sbm").parameters_
    assert finite(p)
    np.testing.assert_allclose(p["affinity"].values[0], [[0, 1], [1, 0]])
    np.testing.assert_array_equal(p["membership"].values, 1)


def test_an_infinite_sample_is_no_measurement(pair):
    def spoil(node):
        node["dff"].values[3, 2] = np.inf

    bad = [edited(pair[0], spoil), pair[1]]
    with pytest.raises(DataError, match=r"NaN or infinite for 1 of 12 neurons, first 'N003'"):
        fitted(bad)
    whole = fitted([edited(pair[0], lambda n: n.drop_isel(roi=2)), pair[1]])
    xr.testing.assert_identical(fitted(bad, missing="drop").parameters_, whole.parameters_)


@pytest.mark.parametrize("n_samples", [0, 1])
def test_a_node_without_two_samples_is_named(pair, n_samples):
    short = edited(pair[0], lambda node: node.isel(time=slice(0, n_samples)))
    with pytest.raises(DataError, match=f"node calcium/cells has {n_samples} samples, expected"):
        fitted([short])


def test_traces_without_any_change_leave_nothing_to_fit(pair):
    def still(node):
        node["dff"].values[:] = 2.0

    with pytest.raises(DataError, match=r"12 of 12 traces are constant, first 'N001'"):
        fitted([edited(r, still) for r in pair])
    with pytest.raises(DataError, match="0 neurons are left"):
        fitted([edited(r, still) for r in pair], missing="drop")

    def opposite(node):
        wave = np.sin(np.arange(len(node["dff"])) / 5)
        node["dff"].values[:, :2] = np.stack([wave, -wave], 1)
        return node.isel(roi=[0, 1])

    with pytest.raises(DataError, match="planted1-6: no neuron is left, all are NaN, infinite or"):
        fitted([edited(pair[0], still), pair[1]], missing="drop")
    with pytest.raises(DataError, match="no two neurons ever change together"):
        fitted([edited(r, opposite) for r in pair], rank=1)


def test_an_animal_without_a_pair_says_nothing_and_breaks_nothing(pair):
    lone = edited(pair[0], lambda node: node.isel(roi=[0]))
    model = fitted([lone, pair[1]])
    assert finite(model.parameters_)
    assert np.isnan(model.score(lone)["explained_variance"])
    assert 0 < model.score(pair[1])["explained_variance"] < 1


def test_animals_that_share_no_neuron_are_fitted_side_by_side(pair):
    halves = [
        edited(pair[0], lambda node: node.isel(roi=slice(0, 5))),
        edited(pair[1], lambda node: node.isel(roi=slice(7, 12))),
    ]
    p = fitted(halves).parameters_
    assert np.isnan(p["affinity"].values[:, :5, 5:]).all()
    assert np.isfinite(p["affinity"].values[:, :5, :5]).all()
    assert np.isfinite(p["affinity"].values[:, 5:, 5:]).all()
    assert np.isfinite(p["membership"]).all()


@pytest.mark.parametrize("how", ["sbm", "assortative", "modularity", "consensus"])
def test_a_motif_in_two_parts_is_two_communities(how):
    """Two groups without a link between them, and neurons that link to nobody."""
    rng = np.random.default_rng(0)
    part = np.repeat([0, 1, 2], [12, 12, 4])
    inside = (part[:, None] == part) & (part < 2)
    weights = np.triu(rng.exponential(1, (28, 28)) * inside, 1)
    (labels,) = motif_labels((weights + weights.T)[None], Config(communities=how), seed=0)
    groups = [set(labels[part == g]) for g in range(3)]
    assert len(groups[0]) == len(groups[1]) == 1
    assert not groups[0] & groups[1]
    if how != "assortative":  # to which a neuron without links is no evidence for any community
        assert not (groups[0] | groups[1]) & groups[2]
