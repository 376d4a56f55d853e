"""A tiny planted session taken through every verb once."""

import contextlib
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

PAGE = "title: Tiny\nlicence: CC0-1.0\nreader: nwb\nnodes: [spikes, units, trials]\n"
HEAD = "session_id\tsubject\tpath\tbytes\tsha256\n"
ROW = "s1\tm1\tsimulate:hmm_glm?seed=1&n_sequences=4&n_bins=300&n_states=2&n_units=6\t\t\n"
QUICK = {"n_states": 2, "link": "sigmoid", "n_restarts": 2, "screen_iterations": 4,
         "max_iterations": 6}  # fmt: skip
STEPS = [{"step": "bin_spikes", "bin_width_s": 0.02, "start_s": 0.0}]


def call(*words):
    """Run the command line in this process; return its exit code."""
    from neuropipe.cli import main

    before = sys.argv
    sys.argv = ["neuropipe", *map(str, words)]
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="session")
def neuropipe():
    """Return the command line as a function of its words, whose value is the exit code."""
    return call


@pytest.fixture
def refused(capsys):
    """Return a function that runs a verb which must fail in one line, and gives that line."""

    def run(*words):
        capsys.readouterr()
        code = call(*words)
        said = capsys.readouterr().err
        lines = [line for line in said.splitlines() if " INFO " not in line]
        assert code == 1, said
        assert "Traceback" not in said
        assert len(lines) == 1, said
        return lines[0]

    return run


def paths(root: Path) -> SimpleNamespace:
    """Where everything of the tiny study lies."""
    results = root / "results"
    return SimpleNamespace(
        root=root,
        results=results,
        page=root / "tiny.yaml",
        receipt=results / "fetch" / "tiny" / "s1.json",
        ingested=results / "ingest" / "tiny" / "s1.zarr",
        prepared=results / "preprocess" / "tiny" / "s1.zarr",
        splits=results / "preprocess" / "splits" / "r.json",
        fit=lambda estimator, fold=0: results / f"fit/r/{estimator}/fold-{fold}/fit.json",
        transform=results / "transform" / "r" / "fold-0.json",
        score=lambda estimator: results / f"score/r/{estimator}/fold-0.tsv",
    )


def fit_words(study, estimator, output=None, checkpoint=None, **parameters):
    """Words of the command that fits an estimator of the tiny study."""
    words = ["fit", estimator, study.prepared, "--splits", study.splits, "--fold", 0, "--seed", 1]
    words += ["--parameters", json.dumps(parameters), "--output", output or study.fit(estimator)]
    return [*words, "--checkpoint", checkpoint] if checkpoint else words


@pytest.fixture(scope="session")
def fit_command():
    """Return the function that words a fit of the tiny study, and its quick parameters."""
    return fit_words, QUICK


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """The tiny study, with one fold of one model and one baseline done."""
    found = paths(tmp_path_factory.mktemp("tiny"))
    found.page.write_text(PAGE)
    found.page.with_suffix(".tsv").write_text(HEAD + ROW)
    split = json.dumps({"by": "trial", "folds": 2})
    chain = [
        ["fetch", found.page, "--session", "s1", "--output", found.receipt],
        ["ingest", found.receipt, "--output", found.ingested],
        ["preprocess", found.ingested, "--steps", json.dumps(STEPS), "--output", found.prepared],
        ["preprocess", found.prepared, "--split", split, "--seed", 1, "--output", found.splits],
        fit_words(found, "homogeneous_rate"),
        fit_words(found, "hmm_glm", **QUICK),
    ]
    held = ["--splits", found.splits]
    chain.append(["transform", found.fit("hmm_glm"), found.prepared, *held,
                  "--output", found.transform])  # fmt: skip
    for name in ("homogeneous_rate", "hmm_glm"):
        chain.append(["score", found.fit(name), found.prepared, *held, "--run", "r",
                      "--seed", 1, "--output", found.score(name)])  # fmt: skip
    with warnings.catch_warnings(), contextlib.redirect_stderr(None):
        warnings.simplefilter("ignore")  # what pynwb says while it writes is not under test
        for words in chain:
            assert call(*words) == 0, words
    return found
