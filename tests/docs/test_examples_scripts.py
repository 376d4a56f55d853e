"""The scripts of docs/examples run as they stand, with nothing but the public names."""

import ast
import importlib.util
import warnings
from pathlib import Path

import matplotlib as mpl
import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
SCRIPTS = ("spikes_states", "calcium_groups", "ieeg_words")


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SCRIPTS)
def test_only_the_public_names_are_used(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"sys", "pathlib", "neuropipe"}


@pytest.fixture
def run(tmp_path, capsys):
    mpl.use("Agg")

    def run(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fits cut short do not converge, and say so
            found = loaded(name).main(tmp_path)
        assert capsys.readouterr().out
        pictures = sorted(tmp_path.glob("*.svg"))
        assert pictures
        assert all("<svg" in p.read_text()[:2000] for p in pictures)
        return found

    return run


def test_spikes(run):
    scores, recovery = run("spikes_states")
    assert recovery["state_accuracy"].min() > 0.8
    best = scores[scores["metric"] == "bits_per_spike"].set_index("estimator")["mean"]
    assert best["hmm_glm"] > best["poisson_glm"] > best["homogeneous_rate"]


def test_calcium(run):
    scores, recovery = run("calcium_groups")
    assert recovery["pair_auc"].min() > 0.8
    assert set(scores["estimator"]) == {"ntf_connectome", "plain_cp", "static_correlation"}


def test_voltages(run):
    scores = run("ieeg_words").set_index(["metric", "estimator"])["mean"]
    assert scores["accuracy", "band_power_lda"] > 0.7
    assert 0 <= scores["accuracy", "du_in"] <= 1
