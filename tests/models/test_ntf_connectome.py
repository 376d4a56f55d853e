"""NTF connectome: a naive sweep, tensorly, planted groups, missing neurons, bad input."""

import logging

import numpy as np
import pytest
import torch
import xarray as xr
from planted_groups import animals, cosines, found_by

from neuropipe.batching.windows import attach_windows
from neuropipe.communities.consensus import agreement
from neuropipe.errors import DataError, NotFittedError
from neuropipe.io.nwb import read
from neuropipe.io.nwb_write import write_nwb
from neuropipe.models.ntf_connectome import nulls, rank
from neuropipe.models.ntf_connectome.config import Config
from neuropipe.models.ntf_connectome.entries import of_tensor
from neuropipe.models.ntf_connectome.estimator import NTFConnectome
from neuropipe.models.ntf_connectome.model import (
    Factors,
    factorise,
    random_start,
)
from neuropipe.models.ntf_connectome.motifs import motif_labels
from neuropipe.training.checkpoint import Checkpoint

QUICK = {"communities": "none", "tolerance": 1e-5}
FORMS = ("geo", "prod", "min", "minpos")


@pytest.fixture(scope="module")
def planted():
    recordings, truth = animals(0)
    return recordings, truth, NTFConnectome(rank=8, **QUICK).fit(recordings, seed=0)


def test_planted_groups_are_found_in_time_and_animals(planted):
    _, truth, model = planted
    levels = found_by(model.parameters_, truth)
    assert levels["pair"] >= 0.97
    assert levels["time"] >= 0.62
    assert levels["animal"] >= 0.82
    assert levels["similarity"] >= 0.75


def test_absent_neurons_are_missing_and_never_zero(planted):
    truth = planted[1]
    lost, _ = animals(0, missing=0.2)
    model = NTFConnectome(rank=8, **QUICK).fit(lost, seed=0)
    p = model.parameters_
    assert p.sizes["unit"] == 40
    levels = found_by(p, truth)
    assert levels["pair"] >= 0.97
    assert levels["time"] >= 0.55
    estimates = model.transform(lost[2])
    assert estimates.sizes == {"window": 240, "component": 8, "unit": 40}
    assert estimates["time"].values[-1] == pytest.approx(239 / 4)


def test_names_and_order_decide_nothing_else(planted):
    recordings, _, model = planted
    shuffled = []
    for n, recording in enumerate(recordings[::-1]):
        turned = recording.copy()
        order = np.random.default_rng(n).permutation(40)
        turned["calcium/cells"] = xr.DataTree(
            recording["calcium/cells"].to_dataset().isel(roi=order)
        )
        shuffled.append(turned)
    again = NTFConnectome(rank=8, **QUICK).fit(shuffled, seed=0)
    xr.testing.assert_identical(again.parameters_, model.parameters_)
    held = attach_windows(recordings[0], [(10, 30)])
    other = attach_windows(shuffled[-1], [(10, 30)])
    assert again.score(other) == model.score(held)


def test_other_names_only_permute_the_outputs():
    """Renamed neurons and animals start elsewhere, and end in the same place."""
    recordings, _ = animals(1, n_units=15, n_groups=2, n_animals=3, overlap=0, snr=4.0)
    names = np.random.default_rng(0).permutation(15)
    renamed = []
    for n, recording in enumerate(recordings):
        turned = recording.copy()
        node = recording["calcium/cells"].to_dataset()
        turned["calcium/cells"] = xr.DataTree(
            node.assign_coords(roi=("roi", [f"x{k}" for k in names], {"units": ""}))
        )
        turned.attrs["subject"] = f"s{2 - n}"
        renamed.append(turned)
    settings = {"rank": 2, "communities": "none", "tolerance": 1e-9, "n_restarts": 4}
    a, b = (NTFConnectome(**settings).fit(r, seed=3).parameters_ for r in (recordings, renamed))
    back = [list(b["unit"].values).index(f"x{k}") for k in names]
    np.testing.assert_allclose(b["membership"].values[back], a["membership"].values, atol=1e-4)
    np.testing.assert_allclose(b["animal_loading"].values[::-1], a["animal_loading"], atol=1e-4)
    np.testing.assert_allclose(b["activation"], a["activation"], atol=1e-4)


def test_shuffled_traces_explain_less():
    recordings, _ = animals(2)
    model = NTFConnectome(rank=4, n_restarts=1, n_shuffles=4, **QUICK).fit(recordings, seed=1)
    p = model.parameters_
    null = p["null_explained_variance"].values
    assert float(p["explained_variance"]) > null.mean() + 10 * null.std(ddof=1)
    assert float(p["null_p"]) == pytest.approx(0.2)
    assert nulls.p_value(0.5, np.array([0.1, 0.6])) == pytest.approx(2 / 3)


def test_rank_is_chosen_by_hidden_entries_and_stability():
    recordings, _ = animals(3, n_groups=3, n_units=20, n_animals=4, overlap=0, snr=4.0)
    model = NTFConnectome(rank=(1, 3, 6), n_restarts=3, held_out_repeats=2, **QUICK).fit(
        recordings, seed=1
    )
    p = model.parameters_
    assert p.attrs["rank"] in (3, 6)
    curve = p["rank_held_out"].mean("repeat").values
    assert curve[0] < curve[1:].min()
    assert p["rank_nuclear"].sizes == {"rank": 3, "restart": 3}


def test_curves_are_read_as_their_rules_say():
    curve = rank.Curve(
        np.array([[0.1, 0.12], [0.3, 0.32], [0.301, 0.3201], [0.2, 0.2]]),
        np.array([1.0, 0.95, 0.7, 0.9]),
        np.array([[1.0, 1.0], [2.0, 2.0], [2.1, 2.1], [2.2, 2.2]]),
    )
    ranks = (1, 2, 3, 4)
    assert rank.choose(ranks, curve, "combined", 0.8) == 2
    assert rank.choose(ranks, curve, "held_out", 0.8) == 3
    assert rank.choose(ranks, curve, "stability", 0.8) == 4
    assert rank.choose(ranks, curve, "knee", 0.8) == 2


def test_on_the_fly_float32_gives_the_same_fit(planted):
    recordings = planted[0]
    settings = {**QUICK, "rank": 8, "max_sweeps": 8, "n_restarts": 2}
    a = NTFConnectome(**settings).fit(recordings[:2], seed=0)
    for storage, near in (("on_the_fly", 2e-5), ("codes", 1e-2)):
        b = NTFConnectome(storage=storage, **settings).fit(recordings[:2], seed=0)
        np.testing.assert_allclose(b.history_["objective"], a.history_["objective"], atol=near)


def test_clocks_are_made_common_by_averaging_or_interpolation():
    recordings, _ = animals(4, n_animals=2, n_units=12, n_groups=2)
    fast = recordings[0]
    slow = NTFConnectome(window_s=0.5, rank=2, **QUICK).fit(recordings, seed=0)
    assert slow.parameters_.sizes["window"] == 120
    node = recordings[1]["calcium/cells"].to_dataset()
    moved = recordings[1].copy()
    moved["calcium/cells"] = xr.DataTree(
        node.assign_coords(time=("time", node["time"].values + 0.1, {"units": "s"}))
    )
    both = NTFConnectome(rank=2, **QUICK).fit([fast, moved], seed=0)
    assert both.parameters_.sizes["window"] == 240
    own = NTFConnectome(rank=2, clock="own", **QUICK).fit(recordings, seed=0)
    assert own.parameters_.sizes["window"] == 480
    assert set(own.parameters_["window_animal"].values) == {"planted1/planted1-4",
                                                            "planted2/planted2-4"}  # fmt: skip
    with pytest.raises(DataError, match="slower than the clock's windows"):
        NTFConnectome(window_s=0.1, rank=2, **QUICK).fit(recordings, seed=0)


def test_gaps_between_windows_are_missing_times():
    recordings, _ = animals(5, n_animals=2, n_units=12, n_groups=2)
    train = [
        attach_windows(recordings[0], [(0, 20), (40, 60)]),
        attach_windows(recordings[1], [(0, 30)]),
    ]
    model = NTFConnectome(rank=2, **QUICK).fit(train, seed=0)
    time = model.parameters_["time"].values
    assert len(time) == 200
    assert not ((time >= 30) & (time < 40)).any()
    held = attach_windows(recordings[1], [(30, 60)])
    assert 0 < model.score(held)["explained_variance"] < 1
    stranger, _ = animals(5, n_animals=3, n_units=12, n_groups=2)
    assert 0 < model.score(stranger[2])["explained_variance"] < 1


def edited(recording: xr.DataTree, edit) -> xr.DataTree:
    """Return a copy with its calcium node edited."""
    out = recording.copy()
    node = recording["calcium/cells"].to_dataset().copy(deep=True)
    out["calcium/cells"] = xr.DataTree(edit(node))
    return out


def test_bad_traces_are_refused_by_name_or_dropped():
    recordings, _ = animals(6, n_animals=2, n_units=12, n_groups=2)

    def flat(node):
        node["dff"].values[:, 3] = 1.5
        return node

    def holes(node):
        node["dff"].values[5, 4] = np.nan
        return node

    for edit, said in (
        (flat, r"constant, first 'N004'"),
        (holes, r"NaN or infinite for 1 of 12 neurons, first 'N005'"),
    ):
        bad = [edited(recordings[0], edit), recordings[1]]
        with pytest.raises(DataError, match=said):
            NTFConnectome(rank=2, **QUICK).fit(bad, seed=0)
        dropped = NTFConnectome(rank=2, missing="drop", **QUICK).fit(bad, seed=0)
        assert dropped.parameters_.sizes["unit"] == 12
    with pytest.raises(DataError, match="comes twice"):
        NTFConnectome(**QUICK).fit(
            [edited(recordings[0], lambda n: n.assign_coords(roi=("roi", ["a"] * 12)))], seed=0
        )
    with pytest.raises(DataError, match="two recordings have the key"):
        NTFConnectome(**QUICK).fit([recordings[0]] * 2, seed=0)
    with pytest.raises(DataError, match="1 neurons are left"):
        NTFConnectome(**QUICK).fit([edited(recordings[0], lambda n: n.isel(roi=[0]))], seed=0)
    alien = edited(
        recordings[0], lambda n: n.assign_coords(roi=("roi", [f"z{k}" for k in range(12)],
                                                      {"units": ""}))
    )  # fmt: skip
    model = NTFConnectome(rank=2, **QUICK).fit(recordings, seed=0)
    with pytest.raises(DataError, match="none of its 12 neurons is known"):
        model.transform(alien)
    with pytest.raises(NotFittedError, match="call fit"):
        NTFConnectome().score(recordings[0])


def test_one_animal_works_and_impossible_ranks_do_not(caplog):
    recordings, _ = animals(7, n_animals=1, n_units=12, n_groups=2)
    with caplog.at_level(logging.INFO):
        model = NTFConnectome(rank=3, **QUICK).fit(recordings, seed=0)
    assert "one animal" in caplog.text
    assert model.parameters_["animal_loading"].values == pytest.approx(1)
    short = [attach_windows(r, [(0, 10)]) for r in recordings]
    with pytest.raises(DataError, match="rank 50 is above 40"):
        NTFConnectome(rank=50, **QUICK).fit(short, seed=0)
    # more components than the data have: the fit is no worse, and says nothing of its own
    parts = [np.random.default_rng(8).random((n, 2)) for n in (20, 25, 30)]
    value = np.einsum("tr,wr,pr->twp", *parts)
    x = of_tensor(torch.as_tensor(value))
    done = factorise(x, random_start(x, 5, 2, np.random.default_rng(0)), max_sweeps=60)
    assert float(done.error[-1].min()) < 0.01
    assert all(bool(torch.isfinite(f).all()) for f in done.factors)


def test_neurons_that_share_no_animal_have_no_affinity():
    recordings, _ = animals(9, n_animals=2, n_units=12, n_groups=2)
    halves = [
        edited(recordings[0], lambda n: n.isel(roi=slice(0, 7))),
        edited(recordings[1], lambda n: n.isel(roi=slice(5, 12))),
    ]
    p = NTFConnectome(rank=2, **QUICK).fit(halves, seed=0).parameters_
    affinity = p["affinity"].values
    assert np.isnan(affinity[:, 0, 11]).all()
    assert np.isfinite(affinity[:, 5, :]).all()
    assert np.isfinite(p["membership"]).all()


def test_communities_of_a_component_are_its_planted_group(planted):
    _, truth, model = planted
    affinity = model.parameters_["affinity"].values
    member = truth["member"].values
    i, j = np.triu_indices(40, 1)
    pairs = (member[:, i] & member[:, j]).astype(float)
    alike = cosines(pairs, affinity[:, i, j])
    group, component = np.unravel_index(int(np.argmax(alike)), alike.shape)
    for how in ("sbm", "consensus"):
        (labels,) = motif_labels(affinity[[component]], Config(communities=how), seed=0)
        score = max(
            agreement(member[group].astype(int), (labels == k).astype(int))["ari"]
            for k in np.unique(labels)
        )
        assert score > (0.7 if how == "sbm" else 0.0)


def test_communities_are_found_again_in_starts_animals_and_halves():
    recordings, _ = animals(1, n_units=15, n_groups=2, n_animals=3, overlap=0, snr=4.0, missing=0.2)
    model = NTFConnectome(rank=2, n_restarts=2, community_repeats=True, tolerance=1e-5)
    p = model.fit(recordings, seed=0).parameters_
    whole = p["community"].values
    best = int(np.argmin(p["restart_error"].values))
    np.testing.assert_array_equal(p["community_of_restart"].values[best], whole)
    assert p["community_of_half"].shape == (2, 2, 15)
    lacking = p["community_of_animal"].values < 0
    for n, recording in enumerate(recordings):
        shown = set(recording["calcium/cells"]["roi"].values)
        absent = [u not in shown for u in p["unit"].values]
        np.testing.assert_array_equal(lacking[n], [absent] * 2)
    halves = p["community_of_half"].values
    alike = [agreement(a, b)["ari"] for half in halves for a, b in zip(half, whole, strict=True)]
    assert np.mean(alike) > 0.5
    with pytest.raises(ValueError, match="community_repeats"):
        Config(communities="none", community_repeats=True)
    with pytest.raises(ValueError, match="n_blocks"):
        Config(communities="modularity", n_blocks=2)


def test_a_killed_fit_resumes_to_the_same_numbers(tmp_path, monkeypatch):
    recordings, _ = animals(8, n_animals=2, n_units=10, n_groups=2)
    settings = {"rank": (2, 3), "n_restarts": 2, "held_out_repeats": 1, **QUICK}
    whole = NTFConnectome(**settings).fit(recordings, seed=2)
    monkeypatch.setattr("neuropipe.training.checkpoint.Checkpoint.put", killed_after(25))
    with pytest.raises(KeyboardInterrupt):
        NTFConnectome(**settings).fit(recordings, seed=2, checkpoint=tmp_path / "c.pt")
    monkeypatch.undo()
    again = NTFConnectome(**settings).fit(recordings, seed=2, checkpoint=tmp_path / "c.pt")
    xr.testing.assert_identical(again.parameters_, whole.parameters_)
    xr.testing.assert_identical(again.history_, whole.history_)


def killed_after(n: int):
    """Return a `Checkpoint.put` that writes every state, and stops the fit at the n-th."""
    put, calls = Checkpoint.put, []

    def stop(self, stage, state, *, done=False):
        calls.append(stage)
        if len(calls) > n:
            raise KeyboardInterrupt
        self.every_s = 0.0
        put(self, stage, state, done=done)

    return stop


def test_sessions_from_real_files_match_by_name(tmp_path):
    recordings, truth = animals(2, missing=0.3, n_animals=3, n_units=20, n_groups=2)
    back = []
    for n, recording in enumerate(recordings):
        write_nwb(recording, tmp_path / f"{n}.nwb")
        back.append(read(tmp_path / f"{n}.nwb", dataset="d", subject=f"planted{n + 1}",
                         session=recording.attrs["session"]))  # fmt: skip
    settings = {"rank": 2, "n_restarts": 1, "max_sweeps": 5, **QUICK}
    whole, again = (NTFConnectome(**settings).fit(r, seed=0) for r in (recordings, back))
    assert list(again.parameters_["unit"].values) == list(truth["unit"].values)
    np.testing.assert_allclose(again.parameters_["affinity"], whole.parameters_["affinity"])


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="different numbers from 1 to 200"):
        Config(rank=(2, 2))
    with pytest.raises(ValueError, match="compares restarts"):
        Config(rank=(2, 3), n_restarts=1)
    assert Config(rank=(4, 2)).ranks == (2, 4)


def test_factors_of_some_starts():
    f = Factors(*(torch.arange(3.0)[:, None, None] for _ in range(3)))
    assert f.of([2]).pair.item() == 2


def test_an_absent_component_is_not_brought_back_by_its_activation(planted):
    """A loading at the floor of the updates would leave the product of both free."""
    recordings, _, model = planted
    loading = model.parameters_["animal_loading"].values
    assert ((loading == 0) | (loading > 1e-6)).all()
    for recording in recordings:
        assert float(model.transform(recording)["activation"].max()) < 1e6
