from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_spikes import MODEL, SPIKE_RUNS, made_spikes_run
from scipy.stats import bernoulli, poisson

from neuropipe.tables import resolve, suiting

OWN = [name for name in suiting(MODEL) if name not in suiting("other")]


@pytest.fixture(scope="module")
def runs():
    return {kind: made_spikes_run(**settings) for kind, settings in SPIKE_RUNS.items()}


@pytest.mark.parametrize("kind", SPIKE_RUNS)
@pytest.mark.parametrize("name", OWN)
def test_tabulates_every_run_of_spikes(name, kind, runs):
    frame = resolve(name)(runs[kind])
    assert frame.columns.is_unique
    frame.to_csv(sep="\t", index=False, float_format="%.6g")


@pytest.mark.parametrize("name", OWN)
def test_run_without_fits_gives_spike_tables_without_rows(name, runs):
    run = runs["full"]
    empty = dataclasses.replace(
        run, parameters={}, history={}, truth={}, scores=run.scores.iloc[:0]
    )
    frame = resolve(name)(empty)
    assert len(frame) == 0
    assert list(frame.columns) == list(resolve(name)(run).columns)


def test_decoding_stands_beside_chance(runs):
    frame = resolve("behavior_decoding")(runs["full"])
    assert frame["estimator"].tolist() == [MODEL, "ridge_decoder"] * 2
    assert frame["r"].tolist() == [0.9, 0.8, 0.9, 0.8]
    assert set(frame["r_by_chance"]) == {0.1}


def test_planted_drives_are_told_from_others(runs):
    frame = resolve("driver_recovery")(runs["full"]).set_index(["fold", "estimator"])
    assert frame.loc[(0, MODEL), "auc"] == 1.0
    assert frame.loc[(0, "poisson_glm"), "precision"] == 1.0
    assert frame.loc[(0, "poisson_glm"), "mean_of_planted"] == pytest.approx(2.2)
    assert abs(frame.loc[(0, "lagged_correlation"), "auc"] - 0.5) < 0.35
    assert frame.loc[(0, MODEL), "n_edges"] == 6
    assert frame.loc[(0, MODEL), "n_pairs"] == 12 * 11


def test_the_strongest_drives_come_first(runs):
    frame = resolve("driver_edges")(runs["p of refits"])
    assert frame["planted"].head(6).tolist() == [2.2] * 6
    assert (np.diff(frame["connectivity"].abs()) <= 0).all()
    assert (frame["q_value"] >= frame["p_value"]).all()
    assert resolve("driver_edges")(runs["full"])["p_value"].isna().all()


def test_cost_of_fits_by_hand(runs):
    frame = resolve("fit_cost")(runs["full"])
    assert frame["estimator"].tolist() == [MODEL, MODEL]
    row = frame.iloc[0]
    assert (row["seconds"], row["epochs"], row["best_epoch"]) == (12.5, 6, 5)
    assert row["first_objective"] == pytest.approx(7.0)
    assert row["n_weights"] == 1234
    assert row["tokens_per_second"] == pytest.approx(6 * 5000 / 12.5)


def test_the_explained_share_is_told_by_the_process(runs):
    run = runs["full"]
    frame = resolve("explained_share")(run)
    assert frame["fold"].tolist() == [0, 1]
    time = run.estimates["a", 1]["time"].values
    counts = run.recordings["a"]["counts"]["spike_count"].sel(time=time).values.astype(int)
    chance = 1 - np.exp(-0.01 * run.truth["a"]["rate"].sel(time=time, method="nearest").values)
    null = run.parameters[MODEL, 1]["rate"].values * 0.01
    chance = np.minimum(chance, 0.9)  # as the simulator has it
    gain = bernoulli.logpmf(counts, chance).sum() - poisson.logpmf(counts, null).sum()
    bits = gain / counts.sum() / np.log(2)
    assert frame["process_bits_per_spike"][1] == pytest.approx(bits, rel=1e-5)
    assert frame["share"][1] == pytest.approx(0.5 / bits, rel=1e-5)
    assert len(resolve("explained_share")(runs["nothing drawn nor decoded"])) == 0


def test_few_labels_with_and_without_pretraining(runs):
    frame = resolve("few_shot")(runs["few labels"])
    assert frame["label_share"].tolist() == [0.01, 0.1, 1.0]
    np.testing.assert_allclose(frame["difference"], [0.2, 0.1, 0.0], atol=1e-12)
    np.testing.assert_allclose(frame["r_pretrained"], [0.61, 0.81, 0.91])
    assert (frame["folds"] == 2).all()
    assert len(resolve("few_shot")(runs["full"])) == 0
