from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_latents import LATENT_RUNS, MODEL, WIDTH_S, made_latent_run

from neuropipe.latents import (
    halves,
    latent_names,
    measured_behavior,
    measured_units,
    planted_latents,
    recovered_r2,
)
from neuropipe.tables import resolve, suiting

OWN = ("latent_summary", "dimension_choice", "latent_recovery")


@pytest.fixture(scope="module", params=LATENT_RUNS.values(), ids=LATENT_RUNS.keys())
def run(request):
    return made_latent_run(**request.param)


@pytest.fixture(scope="module")
def full_run():
    return made_latent_run()


@pytest.mark.parametrize("name", suiting(MODEL))
def test_tabulates_every_run_of_latents(name, run):
    frame = resolve(name)(run)
    assert frame.columns.is_unique
    frame.to_csv(sep="\t", index=False, float_format="%.6g")


def test_run_without_fits_gives_tables_without_rows(full_run):
    empty = dataclasses.replace(full_run, parameters={}, truth={}, estimates={})
    for name in OWN:
        frame = resolve(name)(empty)
        assert len(frame) == 0
        assert list(frame.columns) == list(resolve(name)(full_run).columns)


def test_summary_by_hand(full_run):
    table = resolve("latent_summary")(full_run)
    fits = [full_run.parameters[MODEL, f] for f in (0, 1)]
    assert table["latent"].tolist() == ["shared 0", "neural 0", "behavior 0"]
    lengths = np.stack([p["length_scale"].values for p in fits])
    np.testing.assert_allclose(table["length_scale_s"], lengths[0])
    np.testing.assert_allclose(table["length_scale_sd_s"], lengths.std(0, ddof=1))
    share = fits[0]["variance_explained"].sel(modality="behavior").values
    np.testing.assert_allclose(table["behavior_share"], share)
    assert not table["at_floor"].any()
    assert table["folds"].tolist() == [2, 2, 2]
    low = {k: p.assign_attrs(min_length_scale_s=1.0) for k, p in full_run.parameters.items()}
    assert resolve("latent_summary")(dataclasses.replace(full_run, parameters=low))[
        "at_floor"
    ].all()


def test_one_modality_has_no_share_of_the_other():
    table = resolve("latent_summary")(made_latent_run(**LATENT_RUNS["neural activity alone"]))
    assert table["latent"].tolist() == ["neural 0", "neural 1"]
    assert table["behavior_share"].isna().all()
    assert table["neural_share"].notna().all()


def test_choices_by_hand(full_run):
    table = resolve("dimension_choice")(full_run).set_index(["estimator", "latents"])
    assert table["chosen_in_folds"].tolist() == [0, 2, 0, 0, 2]  # bounds rise, errors fall
    assert table.loc[(MODEL, "2-2-2"), "score"] == -19.5
    assert table.loc[("smoothed_factors", "2"), "units"] == "1"
    single = made_latent_run(tried=False)
    assert set(resolve("dimension_choice")(single)["estimator"]) == {"smoothed_factors"}


def test_recovery_by_hand(full_run):
    table = resolve("latent_recovery")(full_run)
    assert len(table) == 2 * 2 * 3
    assert table["latent"].tolist() == ["shared 0", "neural 0", "behavior 0"] * 4
    assert table["same_kind"].all()
    # the estimates are the planted latents, turned round and scaled, with noise of sd 0.15
    assert ((table["span_r2"] > 0.95) & (table["span_r2"] < 1)).all()
    assert (table["single_r2"] <= table["span_r2"] + 0.01).all()
    np.testing.assert_allclose(table["planted_length_scale_s"].iloc[:3], [0.2, 0.36, 0.12])


def test_a_map_that_holds_in_one_half_only_is_no_recovery():
    rng = np.random.default_rng(0)
    planted, first = rng.normal(size=(400, 1)), np.arange(400) < 200
    turned = np.where(first[:, None], planted, -planted)
    span, single, match = recovered_r2(turned, planted, first)
    assert span[0] < -1
    assert single[0] < -1
    assert match.tolist() == [0]
    span, single, _ = recovered_r2(2 - 3 * planted, planted, first)
    np.testing.assert_allclose([span[0], single[0]], 1)
    mixed = planted @ np.ones((1, 2)) + np.array([1, -1]) * rng.normal(size=(400, 1))
    span, single, _ = recovered_r2(mixed, planted, first)
    assert span[0] > 0.99  # their sum
    assert single[0] < 0.7


def test_too_few_bins_give_no_recovery():
    span, single, _ = recovered_r2(np.eye(3), np.ones((3, 1)), np.arange(3) < 1)
    assert np.isnan(span).all()
    assert np.isnan(single).all()


def test_halves_are_windows_where_there_are_several():
    assert halves(np.array([3, 3, 3, 3])).tolist() == [True, True, False, False]
    assert halves(np.array([0, 0, 4, 4, 9])).tolist() == [True, True, False, False, True]


def test_what_was_measured_is_found_by_name(full_run):
    estimate = full_run.estimates["s1", 1].isel(channel=[2, 0], unit=[4, 1])
    recording = full_run.recordings["s1"]
    at = np.rint(estimate["time"].values / WIDTH_S - 0.5).astype(int)
    behavior = measured_behavior(full_run, "s1", estimate)
    np.testing.assert_array_equal(behavior, recording["behavior"]["limb"].values[at][:, [2, 0]])
    counts = measured_units(full_run, "s1", estimate)
    want = recording["counts"]["spike_count"].values[at][:, [4, 1]].astype(float)
    want[~recording["counts"]["observed"].values[at]] = np.nan
    np.testing.assert_array_equal(counts, want)
    later = estimate.assign_coords(time=estimate["time"] + 1e4)
    assert np.isnan(measured_behavior(full_run, "s1", later)).all()
    assert planted_latents(full_run, "s1", later["time"].values) is None
    strangers = estimate.assign_coords(unit=["7", "900"])
    assert measured_units(full_run, "s1", strangers) is None


def test_latents_are_numbered_within_their_kind(full_run):
    labelled = full_run.parameters[MODEL, 0].isel(latent=[0, 1, 1, 2])
    assert latent_names(labelled) == ["shared 0", "neural 0", "neural 1", "behavior 0"]
