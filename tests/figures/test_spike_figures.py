from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest
from made_spikes import MODEL, SPIKE_RUNS, made_spikes_run
from matplotlib.figure import Figure

from neuropipe.figures import resolve, suiting
from neuropipe.figures.held_out import held_out
from neuropipe.figures.style import save

OWN = [name for name in suiting(MODEL) if name not in suiting("other")]


@pytest.fixture(scope="module")
def runs():
    return {kind: made_spikes_run(**settings) for kind, settings in SPIKE_RUNS.items()}


def labels_of(figure: Figure) -> str:
    texts = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(texts)


@pytest.mark.parametrize("kind", SPIKE_RUNS)
@pytest.mark.parametrize("name", OWN)
def test_draws_every_run_of_spikes(name, kind, runs, tmp_path):
    figure = resolve(name)(runs[kind])
    save(figure, tmp_path / "figure.svg")
    ElementTree.parse(tmp_path / "figure.svg")


@pytest.mark.parametrize("name", OWN)
def test_same_spikes_give_same_bytes(name, runs, tmp_path):
    for file in ("a.svg", "b.svg"):
        save(resolve(name)(runs["full"]), tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("spike_rasters", ["recorded", "drawn", "time from session start (s)", "mean rate (Hz)"]),
        ("count_calibration", ["expected (spikes/bin)", "model (Hz)", "spikes in a window"]),
        ("decoding_traces", ["speed (dimensionless)", "time from session start (s)", "r = "]),
        ("driver_matrices", ["source unit", "planted", "lagged correlation", "AUC 1.000"]),
    ],
)
def test_labels_of_spikes_carry_units(name, expected, runs):
    text = labels_of(resolve(name)(runs["full"]))
    for label in expected:
        assert label in text


def test_few_labels_are_drawn_beside_chance(runs):
    figure = resolve("few_shot_curves")(runs["few labels"])
    [axes] = figure.axes
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["pretrained", "from scratch"]
    lines = [line.get_ydata() for line in axes.lines]
    np.testing.assert_allclose(lines[0], [0.61, 0.81, 0.91])  # mean of two folds
    np.testing.assert_allclose(lines[-1], 0.1)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "10", "100"]


def test_held_out_bins_are_those_of_the_recording(runs):
    run = runs["full"]
    held = held_out(run, "predicted_rate")
    counts = run.recordings["a"]["counts"]["spike_count"].values
    assert np.array_equal(held.counts, counts[:1000])
    assert held.windows().tolist() == np.repeat(np.arange(200), 5).tolist()
    assert held.span(3.0) == slice(350, 650)
    # a gap ends a window, and the longest piece is shown
    part = np.r_[0:302, 400:1000]
    cut = {**run.estimates, ("a", 0): run.estimates["a", 0].isel(time=part)}
    broken = held_out(dataclasses.replace(run, estimates=cut), "predicted_rate")
    assert np.array_equal(broken.counts, counts[part])
    assert broken.windows()[300:303].tolist() == [60, 60, 61]
    assert broken.windows()[-1] == 61 + 120 - 1
    assert broken.span(100.0) == slice(302, 902)
