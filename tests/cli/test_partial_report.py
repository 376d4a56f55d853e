"""A report of a study that is not whole: what there is, and why the rest is not there."""

import json
import shutil

import pandas as pd
import pytest
import yaml


@pytest.fixture
def half(study, neuropipe, tmp_path):
    """The tiny study with its quality, one fold of two done, and a fit that failed."""
    root = tmp_path / "half"
    shutil.copytree(study.root, root)
    results = root / "results"
    ingested = results / "ingest" / "tiny" / "s1.zarr"
    assert neuropipe("quality", ingested, "--output", results / "quality/tiny/s1.tsv") == 0
    log = results / "logs" / "fit" / "r" / "hmm_glm" / "fold-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("a\nDataError: a unit is silent\n")
    run = {"model": "hmm_glm", "dataset": "tiny", "seed": 1, "parameters": {"n_states": 2},
           "split": {"by": "trial", "folds": 2}, "baselines": ["homogeneous_rate"]}  # fmt: skip
    config = root / "study.yaml"
    data = {"tiny": {"manifest": str(root / "tiny.yaml")}}
    config.write_text(yaml.safe_dump({"study": "s", "datasets": data, "runs": {"r": run}}))
    return config, results


def test_what_is_there_is_reported_and_the_rest_is_explained(half, neuropipe, tmp_path):
    config, results = half
    page = tmp_path / "r" / "index.html"
    words = ("report", "--config", config, "--results", results, "--output", page)
    assert neuropipe(*words, "--partial") == 0
    text = page.read_text()
    assert "DataError: a unit is silent" in text
    assert "the first to fail, fit r/hmm_glm/fold-1" in text
    assert "s1 of tiny" in text
    assert "bin_spikes" in text
    assert "1 failed" in text


def test_a_report_is_made_from_anywhere(half, neuropipe, tmp_path, monkeypatch):
    config, _ = half
    told = yaml.safe_load(config.read_text())
    told["datasets"]["tiny"]["manifest"] = "tiny.yaml"
    config.write_text(yaml.safe_dump(told))
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "r" / "index.html"
    assert neuropipe("report", "--config", config, "--output", page, "--partial") == 0
    assert "s1 of tiny" in page.read_text()


def test_without_partial_half_a_study_has_no_report(half, refused, tmp_path):
    config, results = half
    page = tmp_path / "r" / "index.html"
    words = ("report", "--config", config, "--results", results, "--output", page)
    assert "run the step that writes it" in refused(*words)
    assert not page.exists()


def test_one_of_two_ways_to_name_the_study(half, refused, tmp_path):
    config, _ = half
    words = ("report", "--output", tmp_path / "r.html")
    assert "either --study or --config" in refused(*words)
    both = (*words, "--config", config, "--study", json.dumps({}))
    assert "either --study or --config" in refused(*both)


def test_a_subject_of_digits_keeps_its_zeros(tmp_path):
    from neuropipe.cli.gather import TEXT

    (tmp_path / "t.tsv").write_text("subject\tvalue\n01\t1.5\n")
    assert pd.read_csv(tmp_path / "t.tsv", sep="\t", dtype=TEXT)["subject"].tolist() == ["01"]
