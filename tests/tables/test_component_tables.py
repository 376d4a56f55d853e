from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_groups import GROUP_RUNS, MODEL, made_groups_run
from sklearn.metrics import adjusted_rand_score

from neuropipe.components import area_under_curve, matched, pattern
from neuropipe.tables import resolve, suiting


@pytest.fixture(scope="module", params=GROUP_RUNS.values(), ids=GROUP_RUNS.keys())
def run(request):
    return made_groups_run(**request.param)


@pytest.fixture(scope="module")
def full_run():
    return made_groups_run()


@pytest.mark.parametrize("name", suiting(MODEL))
def test_tabulates_every_run_of_components(name, run):
    frame = resolve(name)(run)
    assert frame.columns.is_unique
    frame.to_csv(sep="\t", index=False, float_format="%.6g")


def test_run_without_fits_gives_tables_without_rows(full_run):
    empty = dataclasses.replace(full_run, parameters={}, truth={})
    for name in (
        "components", "communities", "community_stability", "null_test", "group_recovery",
    ):  # fmt: skip
        frame = resolve(name)(empty)
        assert len(frame) == 0
        assert list(frame.columns) == list(resolve(name)(full_run).columns)


def test_components_by_hand(full_run):
    table = resolve("components")(full_run)
    weights = [full_run.parameters[MODEL, f]["weight"].values for f in (0, 1)]
    np.testing.assert_allclose(table["weight"], weights[0])
    # fold 1 has its groups rolled by one
    pairs = np.stack([weights[0], np.roll(weights[1], -1)])
    np.testing.assert_allclose(table["weight_sd"], pairs.std(axis=0, ddof=1))
    assert table["units_above_half"].tolist() == [4, 4, 4]
    assert table["communities"].tolist() == [2, 2, 2]
    assert table["animals_above_half"].tolist() == [3, 3, 2]
    assert (table["pattern_similarity"] > 0.9).all()
    assert ((table["peak_time_s"] // 20).astype(int) == [0, 1, 2]).all()


def test_communities_and_null_by_hand(full_run):
    table = resolve("communities")(full_run)
    last = table[(table["component"] == 2) & (table["community"] == 1)]
    assert sorted(last["unit"]) == ["N008", "N009", "N010", "N011"]
    assert last["membership"].is_monotonic_decreasing
    for _, rows in table.groupby("component"):
        means = rows.groupby("community", sort=False)["membership"].mean()
        assert means.is_monotonic_decreasing
    null = resolve("null_test")(full_run)
    assert null["traces"].tolist() == ["recorded", *(f"shifted {n}" for n in range(1, 5))] * 2
    assert null["p_value"].iloc[0] == 0.2
    assert null["explained_variance"].iloc[0] == 0.64


def test_communities_that_come_out_again_by_hand(full_run):
    table = resolve("community_stability")(full_run).set_index(["over", "component"])
    labels = full_run.parameters[MODEL, 0]["community"].values
    astray = np.where(np.arange(12) == 0, 1 - labels, labels)
    ari = [adjusted_rand_score(a, b) for a, b in zip(labels, astray, strict=True)]
    # two folds, each with one start like the best and one astray; fold 1 is rolled by one
    np.testing.assert_allclose(
        [table.loc[("restarts", k), "ari"] for k in range(3)], (1 + np.array(ari)) / 2
    )
    np.testing.assert_allclose([table.loc[("halves", k), "ari"] for k in range(3)], ari)
    assert table.loc[("halves", "all"), "comparisons"] == 2
    assert table.loc[("restarts", "all"), "ari"] == pytest.approx((1 + np.mean(ari)) / 2)
    low, high = table.loc[("restarts", "all"), ["ari_low", "ari_high"]]
    assert low < table.loc[("restarts", "all"), "ari"] < high
    assert (table.loc["animals", "ari"] == 1).all()
    # component 2 is absent from one of three animals
    assert table.loc["animals"]["comparisons"].tolist() == [6, 6, 6, 4]
    assert (table.loc["folds", "nmi"] == 1).all()
    assert np.isnan(table.loc[("folds", 0), "nmi_low"])
    assert (table["communities"] == 2).all()


def test_groups_are_recovered_by_hand(full_run):
    table = resolve("group_recovery")(full_run)
    np.testing.assert_allclose(table["pair_auc"], 1)
    assert (table["time_mass"] > 0.8).all()
    assert table["component"].tolist() == [0, 1, 2, 1, 2, 0]
    assert table["animal_auc"].dropna().tolist() == [1, 1]
    chance = table["time_mass_by_chance"]
    np.testing.assert_allclose(chance.groupby(table["fold"]).sum(), 1)


def test_groups_beyond_the_rank_stay_without_component(full_run):
    parameters = {key: p.isel(component=[2]) for key, p in full_run.parameters.items()}
    table = resolve("group_recovery")(dataclasses.replace(full_run, parameters=parameters))
    assert table["component"].isna().sum() == 4
    fewer = resolve("components")(dataclasses.replace(full_run, parameters=parameters))
    assert len(fewer) == 1


def test_a_group_that_training_never_shows_has_no_component(full_run):
    late = {key: p.isel(window=p["time"].values >= 20) for key, p in full_run.parameters.items()}
    table = resolve("group_recovery")(dataclasses.replace(full_run, parameters=late))
    hidden = table[table["group"] == 0]
    assert hidden["component"].isna().all()
    assert (hidden["time_mass_by_chance"] == 0).all()
    assert table["component"].notna().sum() == 4


def test_truth_of_other_units_is_left_alone(full_run):
    truth = {s: t.isel(unit=slice(3)) for s, t in full_run.truth.items()}
    assert len(resolve("group_recovery")(dataclasses.replace(full_run, truth=truth))) == 0


def test_patterns_by_pair_are_the_same(full_run):
    by_pair = made_groups_run(communities="pairs", placed=False)
    a, b = full_run.parameters[MODEL, 0], by_pair.parameters[MODEL, 0]
    for at in (None, [7, 2, 9]):
        np.testing.assert_allclose(pattern(a, 1, at), pattern(b, 1, at))
    similarity, match = matched(a, b)
    np.testing.assert_allclose(similarity, 1)
    assert match.tolist() == [0, 1, 2]
    strangers = b.assign_coords(unit=[f"M{n}" for n in range(12)])
    assert matched(a, strangers)[1].tolist() == [-1, -1, -1]


def test_area_under_curve_counts_ties_half():
    value, positive = np.array([1.0, 1.0, 2.0, 0.0]), np.array([True, False, True, False])
    assert area_under_curve(value, positive) == 3.5 / 4
    assert np.isnan(area_under_curve(value, np.ones(4, bool)))
