from __future__ import annotations

import dataclasses
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from made_run import BASELINES, made_run
from matplotlib.figure import Figure

from neuropipe.errors import ConfigError
from neuropipe.figures import FIGURES, caption, resolve, suiting
from neuropipe.figures.style import save

RUNS = {
    "full": {},
    "several history functions": {"n_basis": 3, "n_restarts": 2, "tried": True},
    "one of everything": {
        "n_states": 1,
        "n_units": 1,
        "n_folds": 1,
        "n_sessions": 1,
        "truth": False,
        "full": False,
        "onehot": False,
    },
    "one unit, several states": {"n_units": 1, "n_folds": 2},
    "many states and sessions": {"n_states": 10, "n_sessions": 6, "n_units": 5, "truth": False},
    "more units than names": {"n_units": 60, "n_states": 2, "n_sessions": 1, "n_bins": 2500},
}


@pytest.fixture(scope="module", params=RUNS.values(), ids=RUNS.keys())
def run(request):
    return made_run(**{"n_bins": 3000, **request.param})


@pytest.fixture(scope="module")
def full_run():
    return made_run(n_bins=3000)


def labels_of(figure: Figure) -> str:
    texts = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(texts)


@pytest.mark.parametrize("name", FIGURES)
def test_draws_every_kind_of_run(name, run, tmp_path):
    figure = resolve(name)(run)
    assert isinstance(figure, Figure)
    save(figure, tmp_path / "figure.svg")
    ElementTree.parse(tmp_path / "figure.svg")
    for axes in figure.axes:
        if axes.axison and axes.get_visible() and axes.get_subplotspec() is not None:
            shared = figure.get_supxlabel() or any(s.get_supxlabel() for s in figure.subfigs)
            assert axes.get_xlabel() or axes.get_ylabel() or shared or axes.get_yticklabels()


@pytest.mark.parametrize("name", FIGURES)
def test_same_run_gives_same_bytes(name, full_run, tmp_path):
    for file in ("a.svg", "b.svg"):
        save(resolve(name)(full_run), tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a.svg", "b.svg"]


@pytest.mark.parametrize("name", FIGURES)
def test_survives_a_run_without_results(name, full_run, tmp_path):
    empty = dataclasses.replace(
        full_run,
        recordings={},
        estimates={},
        parameters={},
        history={},
        scores=full_run.scores.iloc[:0],
        truth={},
    )
    figure = resolve(name)(empty)
    [sentence] = figure.texts
    assert sentence.get_text().endswith(".")
    save(figure, tmp_path / "figure.svg")


@pytest.mark.parametrize("name", FIGURES)
def test_caption_is_one_paragraph(name):
    text = caption(name)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) > 60


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("state_timeline", ["time from session start (s)", "rate (Hz)", "position x\n(cm)"]),
        ("interaction_matrices", ["weight (dimensionless)", "source unit", "planted 0"]),
        ("onehot_graph", ["source unit", "calibration", "share planted"]),
        ("history_filters", ["lag (ms)", "weight (dimensionless)"]),
        ("convergence", ["objective (nats)", "distance to the best (nats)", "step"]),
        ("score_comparison", ["log likelihood per bin (nats/bin)", "bits per spike (bits/spike)"]),
        ("state_properties", ["time t (s)", "rate (Hz)", "next state"]),
        ("recording_overview", ["rate (Hz)", "duration (min)", "behaviour\ntracked (%)"]),
    ],
)
def test_labels_carry_units(name, expected, full_run):
    text = labels_of(resolve(name)(full_run))
    for label in expected:
        assert label in text


def test_units_come_from_the_data(full_run):
    parameters = {
        key: dataset.assign(mean_rate=dataset["mean_rate"].assign_attrs(units="kHz"))
        if "mean_rate" in dataset
        else dataset
        for key, dataset in full_run.parameters.items()
    }
    run = dataclasses.replace(full_run, parameters=parameters)
    assert "rate (kHz)" in labels_of(resolve("state_properties")(run))


def test_scores_that_are_not_finite_are_left_out(full_run):
    scores = full_run.scores.copy()
    scores.loc[scores["estimator"] == "poisson_glm", "value"] = np.nan
    scores.loc[scores.index[:3], "value"] = -np.inf
    resolve("score_comparison")(dataclasses.replace(full_run, scores=scores))
    scores["value"] = np.nan
    figure = resolve("score_comparison")(dataclasses.replace(full_run, scores=scores))
    assert "no finite held-out score" in labels_of(figure)


def test_nan_standard_errors_and_weights_are_drawn(full_run):
    parameters = dict(full_run.parameters)
    broken = parameters["hmm_glm", 0].copy(deep=True)
    broken["weight"][0, 0] = np.nan
    broken["weight_se"][:] = np.nan
    parameters["hmm_glm", 0] = broken
    run = dataclasses.replace(full_run, parameters=parameters)
    for name in ("interaction_matrices", "history_filters", "state_properties"):
        resolve(name)(run)


def test_state_number_marks_what_each_fold_chose():
    figure = resolve("state_number")(made_run(n_bins=2000, tried=True))
    assert "number of states" in labels_of(figure)
    rings = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [ring.get_xdata()[0] for ring in rings] == [3, 3, 3]


def test_folds_with_different_numbers_of_states_are_numbered_alike():
    few, many = made_run(n_bins=3000, n_states=2), made_run(n_bins=3000, n_states=4)
    key = ("hmm_glm", 1)
    parameters = {**few.parameters, key: many.parameters[key]}
    estimates = {k: (many if k[1] == 1 else few).estimates[k] for k in few.estimates}
    run = dataclasses.replace(few, parameters=parameters, estimates=estimates, truth={})
    for name in ("state_timeline", "state_properties"):
        resolve(name)(run)


def test_truth_is_shown_for_fitted_units_only(full_run):
    kept = [3, 5, 9, 14]
    parameters = {
        key: p.sel(unit=kept, source_unit=kept) if "weight" in p else p
        for key, p in full_run.parameters.items()
    }
    run = dataclasses.replace(full_run, parameters=parameters)
    for name in ("interaction_matrices", "onehot_graph"):
        assert isinstance(resolve(name)(run), Figure)


def test_convergence_names_baselines_that_did_not_finish(full_run):
    history = dict(full_run.history)
    history[BASELINES[1], 0] = history[BASELINES[1], 0].assign_attrs(converged=0)
    figure = resolve("convergence")(dataclasses.replace(full_run, history=history))
    folds = sum(estimator == BASELINES[1] for estimator, _ in history)
    assert f"Not converged: {BASELINES[1]} (1 of {folds} folds)" in labels_of(figure)


def test_unknown_name_lists_the_known():
    with pytest.raises(ConfigError, match=r"convergance.*mean 'convergence'.*state_timeline"):
        resolve("convergance")
    with pytest.raises(ConfigError, match="state_timeline"):
        caption("nothing")


def test_a_model_gets_the_figures_that_suit_it():
    assert {"onehot_graph", "convergence"} <= set(suiting("hmm_glm"))
    assert "onehot_graph" not in suiting("other")
    assert "convergence" in suiting("other")
    assert suiting("other", ["convergence"]) == ["convergence"]
    with pytest.raises(ConfigError, match=r"'onehot_graph' is of hmm_glm.*not suit other.*conver"):
        suiting("other", ["convergence", "onehot_graph"])
    with pytest.raises(ConfigError, match=r"did you mean 'convergence'"):
        suiting("other", ["convergance"])


def test_captions_need_no_matplotlib():
    code = (
        "import sys; from neuropipe.figures import FIGURES, caption\n"
        "assert all(caption(name) for name in FIGURES)\n"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_failed_save_leaves_nothing(tmp_path, monkeypatch, full_run):
    figure = resolve("convergence")(full_run)

    def full_disk(*_args, **_options):
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(figure, tmp_path / "figure.svg")
    assert not list(tmp_path.iterdir())
