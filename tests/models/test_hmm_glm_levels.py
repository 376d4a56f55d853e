"""Acceptance levels on the paper's simulation, five seeds: minutes, so marked slow."""

import numpy as np
import pytest
from planted import compare, fit, plant

pytestmark = pytest.mark.slow
SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("prior", ["none", "gaussian"])
def test_thirty_sequences_reach_the_oracle(seed, prior):
    planted = plant(seed, 30)
    levels = compare(planted, fit(planted, prior))
    assert levels["gap"] <= 0.02
    assert levels["accuracy_lost"] <= 0.002
    assert levels["correlation"] >= 0.98
    assert levels["rmse"] <= 0.085
    assert levels["transition_error"] <= 0.005


@pytest.mark.parametrize("seed", SEEDS)
def test_thirty_sequences_show_the_edges(seed):
    planted = plant(seed, 30)
    levels = compare(planted, fit(planted, "one_hot"))
    assert levels["gap"] <= 0.015
    assert levels["rmse"] <= 0.07
    assert levels["adjacency"] >= 0.95 > levels["all_none"]


def test_two_sequences_rank_the_models():
    found: dict[str, list[dict[str, float]]] = {
        "glm": [],
        "none": [],
        "gaussian": [],
        "one_hot": [],
    }
    for seed in SEEDS:
        planted = plant(seed, 2)
        for prior, rows in found.items():
            outcome = fit(planted, "none", n_states=1) if prior == "glm" else fit(planted, prior)
            rows.append(compare(planted, outcome))
    gap = {prior: np.mean([row["gap"] for row in rows]) for prior, rows in found.items()}
    assert gap["one_hot"] <= gap["gaussian"] < gap["none"] < gap["glm"]
    assert gap["none"] - gap["gaussian"] >= 0.1
    for row in found["one_hot"]:
        assert row["correlation"] >= 0.86
        assert row["rmse"] <= 0.21
        assert row["adjacency"] >= 0.90
        assert row["accuracy"] >= 0.965


def test_held_out_likelihood_peaks_at_the_planted_number_of_states():
    planted = plant(0, 6)
    gaps = {
        n: compare(planted, fit(planted, "gaussian", n_states=n, n_restarts=4))["gap"]
        for n in range(2, 8)
    }
    assert min(gaps, key=gaps.get) == 5


@pytest.mark.parametrize("prior", ["gaussian", "one_hot"])
def test_two_hundred_neurons_do_not_collapse(prior):
    planted = plant(0, 2, 4, n_units=200)
    levels = compare(planted, fit(planted, prior))
    assert levels["accuracy"] >= 0.98
