"""The table of all fits: what each row says, and what it leaves open."""

import json

import numpy as np
import pandas as pd
import pytest

from neuropipe.cli.cost import COLUMNS
from neuropipe.cli.provenance import card_energy_j, code_version, sha256_of_json
from neuropipe.report.cost import cost_tables


@pytest.fixture
def table(study, neuropipe, tmp_path):
    run = {"model": "hmm_glm", "dataset": "tiny", "seed": 1, "parameters": {"n_states": 2},
           "split": {"by": "trial", "folds": 2},
           "baselines": ["homogeneous_rate", "poisson_glm"]}  # fmt: skip
    block = {"study": "tiny", "datasets": {"tiny": {"manifest": str(study.page)}},
             "runs": {"r": run}}  # fmt: skip
    path = tmp_path / "cost.tsv"
    code = neuropipe("cost", "--study", json.dumps(block), "--results", study.results,
                     "--output", path)  # fmt: skip
    assert code == 0
    return pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False)


def test_a_row_a_fit_that_there_is(table, study):
    assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert list(table["estimator"]) == ["hmm_glm", "homogeneous_rate"]
    row = table.iloc[0]
    prepared = json.loads(study.prepared.with_suffix(".json").read_text())["content_sha256"]
    assert row["inputs_sha256"] == sha256_of_json({"s1.zarr": prepared})
    assert json.loads(row["parameters"])["n_states"] == 2
    assert row["code_sha256"] == code_version()["sha256"]
    assert row["seconds"] > 0
    assert row["cpu_seconds"] > 0
    assert row["peak_memory_mb"] > 50
    assert not row["resumed"]
    assert row["processes"] == 1


def test_scores_stand_behind(table, study):
    scores = pd.read_csv(study.score("hmm_glm"), sep="\t")
    own = table.set_index("estimator").loc["hmm_glm"]
    for metric, value in scores.groupby("metric")["value"].mean().items():
        assert own[metric] == pytest.approx(value, rel=1e-5)


def test_what_an_estimator_cost(table):
    [(run, shown)] = cost_tables(pd.concat([table, table.assign(fold=1, resumed=True)]))
    assert run == "r"
    assert list(shown["fits"]) == [2, 2]
    assert list(shown["resumed"]) == [1, 1]
    np.testing.assert_allclose(shown["all fits_s"], 2 * table["seconds"])
    np.testing.assert_allclose(shown["one fit_s"], table["seconds"])
    assert shown["energy of the card (kJ)"].isna().all()
    assert "score: bits per spike" in shown


@pytest.mark.gpu
def test_the_card_counts_its_energy():
    import torch

    before = card_energy_j()
    if before is None:
        pytest.skip("this card does not count its energy")
    x = torch.randn(4096, 4096, device="cuda")
    for _ in range(200):
        x = x @ x / 64
    torch.cuda.synchronize()
    assert card_energy_j() > before
