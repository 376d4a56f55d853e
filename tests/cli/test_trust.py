"""A model is asked whether it finds planted truth at the size of a user's recording."""

import pandas as pd
import pytest
import yaml

from neuropipe.report.trust import trust_sentence

QUICK = {"n_states": 2, "link": "sigmoid", "n_restarts": 2, "screen_iterations": 4,
         "max_iterations": 6}  # fmt: skip


def a_run(**changes):
    values = {"model": "hmm_glm", "dataset": "tiny", "seed": 1, "parameters": QUICK,
              "split": {"by": "trial", "folds": 2}}  # fmt: skip
    return values | changes


@pytest.fixture
def config(study, tmp_path):
    path = tmp_path / "c.yaml"
    data = {"tiny": {"manifest": str(study.page)}}
    runs = {"r": a_run()}
    path.write_text(yaml.safe_dump({"study": "s", "datasets": data, "runs": runs}))
    return path


def test_recovery_at_that_size_becomes_a_table(study, config, neuropipe, tmp_path):
    out = tmp_path / "trust.tsv"
    words = ("trust", config, "--run", "r", "--results", study.results, "--output", out)
    assert neuropipe(*words) == 0
    table = pd.read_csv(out, sep="\t")
    assert table["state_accuracy"].between(0, 1).all()
    assert "right state was found in" in trust_sentence("hmm_glm", table)


def test_who_cannot_be_asked_is_refused_by_name(study, config, refused, tmp_path):
    words = ("trust", config, "--results", study.results, "--output", tmp_path / "t.tsv", "--run")
    assert "did you mean 'r'" in refused(*words, "rr")
    empty = ("trust", config, "--results", tmp_path, "--output", tmp_path / "t.tsv", "--run", "r")
    assert "no prepared recording" in refused(*empty)


def test_it_looks_beside_the_configuration(refused, tmp_path, monkeypatch):
    place = tmp_path / "mine"
    place.mkdir()
    (place / "page.yaml").write_text("")
    told = {"study": "s", "datasets": {"tiny": {"manifest": "page.yaml"}}, "runs": {"r": a_run()}}
    (place / "c.yaml").write_text(yaml.safe_dump(told))
    monkeypatch.chdir(tmp_path)
    said = refused("trust", "mine/c.yaml", "--run", "r", "--output", tmp_path / "t.tsv")
    assert "trust: mine/results/preprocess/tiny: no prepared recording" in said


@pytest.mark.parametrize(
    ("model", "columns", "said"),
    [
        ("mm_gpvae", {"kind": ["shared", "neural"], "single_r2": [0.9, 0.5]},
         "R2 shared 0.9, neural 0.5"),
        ("ntf_connectome", {"pair_auc": [0.6, 1.0]}, "0.8 in mean, 0.6 for the worst"),
        ("other", {"x": [1]}, "the table says"),
    ],
)  # fmt: skip
def test_recovery_in_plain_words(model, columns, said):
    assert said in trust_sentence(model, pd.DataFrame(columns))
