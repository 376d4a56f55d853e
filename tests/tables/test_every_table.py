from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from made_run import made_run
from scipy.stats import false_discovery_control, norm

from neuropipe.errors import ConfigError
from neuropipe.metrics import bootstrap_interval
from neuropipe.results import SCORE_COLUMNS
from neuropipe.tables import TABLES, caption, resolve, suiting

RUNS = {
    "full": {},
    "several history functions": {"n_basis": 3},
    "one of everything": {
        "n_states": 1,
        "n_units": 1,
        "n_folds": 1,
        "n_sessions": 1,
        "truth": False,
        "full": False,
        "onehot": False,
    },
    "no edge probabilities": {"onehot": False},
}


@pytest.fixture(scope="module", params=RUNS.values(), ids=RUNS.keys())
def run(request):
    return made_run(**{"n_bins": 3000, **request.param})


@pytest.fixture(scope="module")
def full_run():
    return made_run(n_bins=3000)


@pytest.mark.parametrize("name", TABLES)
def test_tabulates_every_kind_of_run(name, run):
    frame = resolve(name)(run)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.is_unique
    pd.testing.assert_frame_equal(frame, resolve(name)(run))
    frame.to_csv(sep="\t", index=False, float_format="%.6g")


@pytest.mark.parametrize("name", TABLES)
def test_run_without_results_gives_a_table_without_rows(name, full_run):
    empty = dataclasses.replace(
        full_run,
        recordings={},
        estimates={},
        parameters={},
        history={},
        scores=full_run.scores.iloc[:0],
        truth={},
    )
    frame = resolve(name)(empty)
    assert len(frame) == 0
    assert list(frame.columns) == list(resolve(name)(full_run).columns)


@pytest.mark.parametrize("name", TABLES)
def test_caption_is_one_paragraph(name):
    text = caption(name)
    assert text.endswith(".")
    assert "\n" not in text


def test_unknown_name_lists_the_known():
    with pytest.raises(ConfigError, match=r"edge.*did you mean 'edges'.*scores"):
        resolve("edge")


def test_a_model_gets_the_tables_that_suit_it():
    assert {"states", "scores"} <= set(suiting("hmm_glm"))
    assert "states" not in suiting("other")
    with pytest.raises(ConfigError, match=r"table 'states' is of hmm_glm.*not suit other.*scores"):
        suiting("other", ["states"])


def scores_of(values: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        ("d", "s", "r", estimator, fold, 0, "bits_per_spike", value, "bits/spike")
        for estimator, series in values.items()
        for fold, value in enumerate(series)
    ]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def test_scores_by_hand(full_run):
    scores = scores_of(
        {"hmm_glm": [1.0, 2.0, 3.0], "poisson_glm": [0.5, 1.0, np.nan], "flat": [0.0, 0.0, 0.0]}
    )
    table = resolve("scores")(dataclasses.replace(full_run, scores=scores)).set_index("estimator")
    assert list(table.index) == ["hmm_glm", "poisson_glm", "flat"]
    assert list(table["role"]) == ["model", "best baseline", "baseline"]
    np.testing.assert_allclose(table["mean"], [2.0, 0.75, 0.0])
    np.testing.assert_array_equal(table["n"], [3, 2, 3])
    np.testing.assert_allclose(table["model_minus_estimator"], [np.nan, 0.75, 2.0])
    np.testing.assert_array_equal(table["n_pairs"].iloc[1:], [2, 3])
    low, high = bootstrap_interval(np.array([1.0, 2.0, 3.0]), seed=full_run.seed)
    assert table.loc["flat", "difference_ci_low"] == low
    assert table.loc["flat", "difference_ci_high"] == high


def test_scores_of_the_model_alone(full_run):
    scores = scores_of({"hmm_glm": [1.0, 2.0]})
    table = resolve("scores")(dataclasses.replace(full_run, scores=scores))
    assert list(table["role"]) == ["model"]
    assert table["model_minus_estimator"].isna().all()


def test_scores_of_baselines_alone(full_run):
    scores = scores_of({"poisson_glm": [1.0, 2.0], "hmm_glm": [np.nan, np.nan]})
    table = resolve("scores")(dataclasses.replace(full_run, scores=scores))
    assert list(table["role"]) == ["best baseline"]


def test_the_least_is_best_of_a_loss_and_chance_is_no_contest(full_run):
    scores = scores_of({"hmm_glm": [1.0], "dear": [2.0], "cheap": [0.5]})
    for metric, roles in (
        ("unit_cross_entropy", {"cheap": "best baseline", "dear": "baseline"}),
        ("chance_accuracy", {"cheap": "baseline", "dear": "baseline"}),
    ):
        named = scores.assign(metric=metric)
        table = resolve("scores")(dataclasses.replace(full_run, scores=named))
        assert table.set_index("estimator")["role"].drop("hmm_glm").to_dict() == roles


def test_states_by_hand(full_run):
    table = resolve("states")(full_run)
    bin_s = 0.05
    np.testing.assert_allclose(table["mean_dwell_s"], bin_s / 0.015)
    np.testing.assert_allclose(table["stay_probability"], 0.985)
    np.testing.assert_array_equal(table["folds"], 3)
    # made_run rolls the states by the number of the fold
    folds = [full_run.parameters["hmm_glm", f] for f in full_run.folds]
    aligned = np.stack(
        [p["occupancy"].values[np.argsort(np.roll(np.arange(3), f))] for f, p in enumerate(folds)]
    )
    np.testing.assert_allclose(table["occupancy"], aligned.mean(axis=0))
    np.testing.assert_allclose(table["occupancy_sd"], aligned.std(axis=0, ddof=1))
    first = folds[0]["mean_rate"].mean("unit").values
    assert abs(table["mean_population_rate_hz"] - first).max() < first.max()


def test_endless_state_dwells_for_ever():
    table = resolve("states")(made_run(n_bins=500, n_states=1, n_folds=1, truth=False))
    assert np.isinf(table["mean_dwell_s"]).all()


def test_edges_control_false_discoveries(full_run):
    table = resolve("edges")(full_run)
    parameters = full_run.parameters["hmm_glm", 0]
    weight, error = parameters["weight"].values.ravel(), parameters["weight_se"].values.ravel()
    p_value = 2 * norm.sf(np.abs(weight / error))
    np.testing.assert_allclose(table["p_value"], np.sort(p_value))
    np.testing.assert_allclose(table["q_value"], np.sort(false_discovery_control(p_value)))
    row = table.iloc[7]
    where = {name: row[name] for name in ("unit", "source_unit", "state")}
    edge = parameters.sel(where)
    assert row["weight"] == edge["weight"].item()
    probability = edge["edge_probability"].sel(category="excitatory").item()
    assert row["excitatory_probability"] == probability


def test_edges_without_errors_have_no_q_value(full_run):
    parameters = {("hmm_glm", 0): full_run.parameters["hmm_glm", 0].drop_vars("weight_se")}
    table = resolve("edges")(dataclasses.replace(full_run, parameters=parameters))
    assert table["q_value"].isna().all()
    assert len(table) == 3 * 12 * 12


def test_recordings_by_hand(full_run):
    table = resolve("recordings")(full_run).set_index("session")
    counts = full_run.recordings["session-1"]["counts"]["spike_count"]
    row = table.loc["session-1"]
    assert row["units"] == 12
    assert row["spikes"] == counts.values.sum()
    np.testing.assert_allclose(row["duration_s"], 150.0)
    np.testing.assert_allclose(row["missing_share"], 100 / 3000)
    assert row["trials"] == 22
    by_unit = counts.values.sum(0)
    assert row["busiest_unit"] == str(counts["unit"].values[by_unit.argmax()])
    np.testing.assert_allclose(row["busiest_share"], by_unit.max() / by_unit.sum())
    trials = full_run.recordings["session-1"]["trials"]
    inside = (trials["stop_time"] - trials["start_time"]).values.sum()
    np.testing.assert_allclose(row["in_trials_s"], inside)


def test_recordings_without_counts_are_there(full_run):
    traces = xr.Dataset(
        {"region_signal": (("time", "region"), np.zeros((50, 4)), {"units": "1"})},
        {"time": ("time", np.arange(50) * 2.0, {"units": "s"})},
    )
    recordings = {"r": xr.DataTree.from_dict({"/regions": traces}), "none": xr.DataTree()}
    table = resolve("recordings")(dataclasses.replace(full_run, recordings=recordings))
    assert table["node"].tolist()[:1] == ["regions"]
    assert table[["units", "duration_s", "missing_share"]].iloc[0].tolist() == [4, 100, 0]
    assert table["spikes"].isna().all()
    assert table["in_trials_s"].isna().all()
    assert table.iloc[1].drop(["session", "trials"]).isna().all()


def test_amplitudes_are_trials(full_run):
    betas = xr.Dataset({"beta": (("trial", "voxel"), np.zeros((7, 4)), {"units": "%"})})
    recordings = {"r": xr.DataTree.from_dict({"/betas": betas})}
    table = resolve("recordings")(dataclasses.replace(full_run, recordings=recordings))
    assert table["trials"].tolist() == [7]


def test_recovery_by_hand(full_run):
    table = resolve("recovery")(full_run).set_index("fold")
    truth = next(iter(full_run.truth.values()))
    parameters = full_run.parameters["hmm_glm", 1]
    found = parameters["weight"].sum("basis").values
    planted = truth["weight"].values[np.roll(np.arange(3), 1)]
    np.testing.assert_allclose(
        table.loc[1, "weight_rmse"], np.sqrt(((found - planted) ** 2).mean())
    )
    np.testing.assert_allclose(
        table.loc[1, "weight_correlation"], np.corrcoef(found.ravel(), planted.ravel())[0, 1]
    )
    np.testing.assert_allclose(table["all_none_share"], (truth["adjacency"] == 0).mean())
    np.testing.assert_allclose(table["state_accuracy"], 1.0)
    assert (table["adjacency_accuracy"] > table["all_none_share"]).all()
    assert table["oracle_gap_nats_per_bin"].isna().all()


def test_recovery_states_the_gap_to_the_oracle_of_the_held_out_trials(full_run):
    [held] = {tuple(map(tuple, w)) for w in full_run.splits["folds"][2]["test"].values()}
    start = np.array([held[0][0], held[1][0], held[0][1]])  # the last one is not held out
    truth = {
        s: t.assign(
            oracle_log_likelihood=("trial", [-300.0, -100.0, 1e6]),
            trial_start_time=("trial", start),
            trial_bins=("trial", [100, 100, 100]),
        )
        for s, t in full_run.truth.items()
    }
    table = resolve("recovery")(dataclasses.replace(full_run, truth=truth))
    scores = full_run.scores.query(
        "estimator == 'hmm_glm' and metric == 'log_likelihood_per_bin' and fold == 2"
    )
    np.testing.assert_allclose(
        table["oracle_gap_nats_per_bin"].iloc[2], -2.0 - scores["value"].mean()
    )


def test_recovery_looks_at_fitted_units_only(full_run):
    kept = [3, 5, 9, 14]
    parameters = {
        key: p.sel(unit=kept, source_unit=kept) if "weight" in p else p
        for key, p in full_run.parameters.items()
    }
    table = resolve("recovery")(dataclasses.replace(full_run, parameters=parameters))
    assert (table["weight_correlation"] > 0.9).all()


def test_recovery_with_fewer_states_than_planted(full_run):
    fewer = made_run(n_bins=3000, n_states=2)
    run = dataclasses.replace(full_run, parameters=fewer.parameters, estimates=fewer.estimates)
    table = resolve("recovery")(run)
    assert len(table) == 3
    assert table["weight_rmse"].notna().all()
