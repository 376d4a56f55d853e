from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from made_words import MODEL, WORD_RUNS, made_words_run
from matplotlib.figure import Figure

from neuropipe.figures import resolve, suiting
from neuropipe.figures.code_sequences import cut, shared
from neuropipe.figures.style import save

OWN = [name for name in suiting(MODEL) if name not in suiting("other")]


@pytest.fixture(scope="module")
def full_run():
    return made_words_run()


def labels_of(figure: Figure) -> str:
    texts = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(texts)


SHARED = [name for name in suiting(MODEL) if name not in OWN]
DRAWN = [
    *((name, kind) for name in OWN for kind in WORD_RUNS),
    *((n, "everything") for n in SHARED),
]


@pytest.mark.parametrize(("name", "kind"), DRAWN)
def test_draws_every_run_of_words(name, kind, tmp_path):
    figure = resolve(name)(made_words_run(**WORD_RUNS[kind]))
    save(figure, tmp_path / "figure.svg")
    ElementTree.parse(tmp_path / "figure.svg")


@pytest.mark.parametrize("name", OWN)
def test_same_words_give_same_bytes(name, full_run, tmp_path):
    for file in ("a.svg", "b.svg"):
        save(resolve(name)(full_run), tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("code_usage", ["share of tokens (dimensionless)", "perplexity", "fold 1"]),
        ("code_sequences", ["time from start of trial (s)", "word06", "agreement"]),
        ("reconstruction", ["A2-A3\n0.8", "time (s)"]),
        ("learning_curves", ["squared error (dimensionless)", "loss (nats)", "3: classes"]),
        ("class_confusion", ["taken for", "accuracy 0.625", "word07"]),
        ("contact_contributions", ["rise of the log chance (nats)", "shaft B", "y (mm)"]),
        ("recording_overview", ["duration (min)"]),
    ],
)
def test_labels_of_words_carry_units(name, expected, full_run):
    text = labels_of(resolve(name)(full_run))
    for label in expected:
        assert label in text


def test_what_was_left_out_is_said():
    scratch = made_words_run(units=False, codes=False, tested=False)
    assert "fitted without codes" in labels_of(resolve("code_usage")(scratch))
    assert "no codes of held-out windows" in labels_of(resolve("code_sequences")(scratch))
    assert "rebuilds voltages" in labels_of(resolve("reconstruction")(scratch))
    assert "left out" in labels_of(resolve("learning_curves")(scratch))
    assert "mean size of weights" in labels_of(resolve("contact_contributions")(scratch))
    other = dataclasses.replace(scratch, estimates={})
    assert "no held-out trial" in labels_of(resolve("class_confusion")(other))


def test_codes_are_laid_along_their_trials(full_run):
    found = full_run.estimates["w-1", 0]
    time, code, label = cut(found, 0.8)
    np.testing.assert_allclose(time, 0.05 + 0.1 * np.arange(8))
    number = np.array([int(v[4:]) - 1 for v in label])
    np.testing.assert_array_equal(code, (3 * number[:, None] + np.arange(8)) % 30)
    late = found.assign_coords(time=("trial", found["time"].values + 0.26))
    _, moved, _ = cut(late, 0.8)
    np.testing.assert_array_equal(moved[:, :4], code[:, 3:7])
    lost = found.assign_coords(time=("trial", found["time"].values - 100.0))
    run = dataclasses.replace(full_run, estimates={("w-1", 0): lost})
    assert "lies in a window" in labels_of(resolve("code_sequences")(run))


def test_agreement_of_codes_by_hand():
    code = np.array([[1, 2], [1, 3], [4, -1], [4, 5]])
    label = np.array(["a", "a", "b", "b"])
    agreement, null = shared(code, label, seed=0)
    np.testing.assert_allclose(agreement, [1.0, 0.75])
    assert null[:, 0].min() == 0.5
    assert xr.DataArray(null).shape == (50, 2)


def test_planted_contacts_are_crossed_and_found_ones_filled(full_run):
    figure = resolve("contact_contributions")(full_run)
    first = next(axes for axes in figure.axes if axes.get_title(loc="left") == "shaft A")
    crosses = next(ln for ln in first.lines if ln.get_marker() == "x")
    assert crosses.get_xdata().tolist() == [0, 1, 2]  # A1-A2, A2-A3, A3-A4 hold A2 or A3
    filled = next(
        ln for ln in first.lines
        if ln.get_marker() == "o" and ln.get_markerfacecolor() != "white"
    )  # fmt: skip
    assert filled.get_xdata().tolist() == [1]
