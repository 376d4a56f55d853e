from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest
from made_groups import GROUP_RUNS, MODEL, made_groups_run
from matplotlib.figure import Figure

from neuropipe.figures import resolve, suiting
from neuropipe.figures.component_activations import _timed, broken
from neuropipe.figures.convergence import _best
from neuropipe.figures.motif_graphs import positions, strongest_pairs
from neuropipe.figures.motifs import ordered_units
from neuropipe.figures.style import notice_of, save

OWN = [name for name in suiting(MODEL) if name not in suiting("other")]


@pytest.fixture(scope="module")
def full_run():
    return made_groups_run()


def labels_of(figure: Figure) -> str:
    texts = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(texts)


@pytest.mark.parametrize("kind", GROUP_RUNS)
@pytest.mark.parametrize("name", suiting(MODEL))
def test_draws_every_run_of_components(name, kind, tmp_path):
    figure = resolve(name)(made_groups_run(**GROUP_RUNS[kind]))
    save(figure, tmp_path / "figure.svg")
    ElementTree.parse(tmp_path / "figure.svg")


@pytest.mark.parametrize("name", OWN)
def test_same_components_give_same_bytes(name, full_run, tmp_path):
    for file in ("a.svg", "b.svg"):
        save(resolve(name)(full_run), tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("component_activations", ["time from session start (s)", "salt", "(dimensionless)"]),
        ("animal_loadings", ["loading (dimensionless)", "loading, other folds"]),
        ("motif_graphs", ["x (um)", "% of energy"]),
        ("community_matrices", ["2 communities", "affinity over the largest"]),
        ("rank_choice", ["rank", "published criterion", "similarity of starts\n(dimensionless)"]),
        ("restart_stability", ["fold 0 (3 starts)", "component of the first fold"]),
        ("convergence", ["objective (dimensionless)", "step of all starts"]),
        ("recording_overview", ["sd over noise\n(dimensionless)", "duration (min)"]),
    ],
)
def test_labels_of_components_carry_units(name, expected, full_run):
    text = labels_of(resolve(name)(full_run))
    for label in expected:
        assert label in text


def test_a_rank_that_was_given_is_said():
    figure = resolve("rank_choice")(made_groups_run(chosen=False))
    assert "The rank was set to 3" in labels_of(figure)


def test_one_animal_has_no_loadings_to_compare(tmp_path):
    run = made_groups_run()
    alone = {key: fit.isel(animal=[0]) for key, fit in run.parameters.items()
             if "animal" in fit.dims}  # fmt: skip
    figure = resolve("animal_loadings")(
        dataclasses.replace(run, parameters={**run.parameters, **alone})
    )
    save(figure, tmp_path / "figure.svg")
    said = "The recordings are of one animal, so no loadings are to be compared."
    assert notice_of((tmp_path / "figure.svg").read_text()) == said


def test_a_figure_that_shows_something_has_no_notice(full_run, tmp_path):
    save(resolve("animal_loadings")(full_run), tmp_path / "figure.svg")
    assert notice_of((tmp_path / "figure.svg").read_text()) == ""


def test_rank_choice_rings_what_each_fold_chose(full_run):
    figure = resolve("rank_choice")(full_run)
    rings = [ln for ln in figure.axes[0].lines if ln.get_markerfacecolor() == "none"]
    assert [round(float(ring.get_xdata()[0])) for ring in rings] == [3, 3]


def test_a_course_breaks_where_windows_are_left_out():
    time, values = broken(np.array([0.0, 3.0, 1.0, 4.0, 5.0]), np.arange(5.0)[:, None])
    np.testing.assert_array_equal(time, [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(values[:, 0], [0, 2, np.nan, 1, 3, 4])


def test_an_animal_has_no_course_of_what_it_lacks(full_run):
    parameters = full_run.parameters[MODEL, 0].copy(deep=True)
    parameters["animal_loading"][1, 2] = 1e-12
    estimate = full_run.estimates["w1-s", 0]
    assert np.isnan(_timed(estimate, "w1-s", parameters)).all(axis=0).tolist() == [0, 0, 1]
    assert np.isfinite(_timed(estimate, "w0-s", parameters)).all()
    assert np.isfinite(_timed(estimate, "a new animal", parameters)).all()


def test_units_lie_where_they_were_recorded(full_run):
    place, labels = positions(full_run, full_run.parameters[MODEL, 0])
    first = full_run.recordings["w0-s"]["calcium/cells"]
    np.testing.assert_array_equal(place[:, 0], first["x"].values)
    assert labels == ("x (um)", "y (um)")
    flat = {}
    for session, recording in full_run.recordings.items():
        flat[session] = recording.copy()
        cells = recording["calcium/cells"].to_dataset()
        flat[session]["calcium/cells"] = cells.assign_coords(x=("roi", np.zeros(12)))
    run = dataclasses.replace(full_run, recordings=flat)
    assert positions(run, full_run.parameters[MODEL, 0]) is None


def test_units_are_ordered_by_community_and_pairs_by_strength(full_run):
    parameters = full_run.parameters[MODEL, 0]
    at, label = ordered_units(parameters, 1, 8)
    assert sorted(at[:4]) == [4, 5, 6, 7]
    assert label.tolist() == [0] * 4 + [1] * 4
    member = parameters["membership"].values[:, 1]
    assert (np.diff(member[at[:4]]) <= 0).all()
    pairs, strength = strongest_pairs(parameters, 1, at)
    assert pairs.shape == (2, 6)
    assert pairs.max() == 3
    assert strength[-1] == 1


def test_the_best_of_an_error_is_its_smallest():
    assert _best(np.array([[3.0, 2.0, 1.0]])) == 1
    assert _best(np.array([[-3.0, -2.0, -1.0]])) == -1
    assert np.isnan(_best(np.full((1, 2), np.nan)))
