from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from made_bridge import BRIDGE_RUNS, MODEL, made_bridge_run
from matplotlib.figure import Figure

from neuropipe.figures import resolve, suiting
from neuropipe.figures.brain_cycles import _table
from neuropipe.figures.style import save
from neuropipe.figures.voxel_importance import _volume
from neuropipe.identified import chance, each, held_out
from neuropipe.retrieval import two_way_identification

OWN = [name for name in suiting(MODEL) if name not in suiting("other")]


@pytest.fixture(scope="module")
def full_run():
    return made_bridge_run()


def labels_of(figure: Figure) -> str:
    texts = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(texts)


@pytest.mark.parametrize("kind", BRIDGE_RUNS)
@pytest.mark.parametrize("name", suiting(MODEL))
def test_draws_every_run_of_bridges(name, kind, tmp_path):
    save(resolve(name)(made_bridge_run(**BRIDGE_RUNS[kind])), tmp_path / "figure.svg")
    ElementTree.parse(tmp_path / "figure.svg")


@pytest.mark.parametrize("name", OWN)
def test_same_bridges_give_same_bytes(name, full_run, tmp_path):
    for file in ("a.svg", "b.svg"):
        save(resolve(name)(full_run), tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("retrieval_curves", ["of a pool of 10 stimuli", "subject p1", "chance"]),
        ("identification_by_subject", ["two-way identification (dimensionless)", "subject ridge"]),
        ("embedding_similarity", ["image shown", "brain decoded", "cosine (dimensionless)"]),
        ("retrieved_pictures", ["subject p1", "shown", "nearest to the decoded"]),
        ("brain_cycles", ["through subject", "there and back", "r after other brains"]),
        ("adaptation_curve", ["stimuli of the new subject", "from scratch"]),
        ("voxel_importance", ["importance over the mean", "subject p2, along k"]),
    ],
)
def test_labels_say_what_is_shown(name, expected, full_run):
    text = labels_of(resolve(name)(full_run))
    for label in expected:
        assert label in text


def test_what_is_not_there_is_said():
    bare = made_bridge_run(cycles=False, curve=False)
    assert "takes the mode bridge" in labels_of(resolve("brain_cycles")(bare))
    assert "adaptation_trials" in labels_of(resolve("adaptation_curve")(bare))
    blind = made_bridge_run(pictures=False)
    assert "the reader's option `pictures`" in labels_of(resolve("retrieved_pictures")(blind))


def test_one_subject_fills_its_figure():
    alone = resolve("embedding_similarity")(made_bridge_run(n_subjects=1))
    alone.canvas.draw()
    matrix, spread, *_ = alone.axes
    assert matrix.get_position().x1 < spread.get_position().x0
    assert matrix.get_position().x0 < 0.2


def test_pictures_stand_where_the_decoding_puts_them(full_run):
    [axes, *_] = resolve("retrieved_pictures")(full_run).axes
    board = axes.images[0].get_array()
    [one] = [h for h in held_out(full_run) if h.subject == "p0" and h.fold == 0]
    node = full_run.recordings["p0"]["stimulus/pictures"].to_dataset()
    at = {str(n): i for i, n in enumerate(node["stimulus"].values)}
    best = int(np.argsort(each(one, "two_way_image", 10), kind="stable")[-1])
    nearest = np.argsort(-one.similarity[best], kind="stable")[:4]
    side, cut = 6, slice(1, 7)  # the middle of 8 pixels
    for place, row in zip((0, 2, 3, 4, 5), (best, *nearest), strict=True):
        frame = node["frame_color"].values[at[one.label[row]]][:, cut]
        x = place * (side + 2)
        np.testing.assert_array_equal(board[:side, x : x + side], frame)
    framed = sum(best_row in near for best_row, near in _rows(one))
    assert len(axes.patches) == framed


def _rows(one):
    order = np.argsort(each(one, "two_way_image", 10), kind="stable")
    for q in (1, 0.75, 0.5, 0.25, 0):
        row = order[round(q * (len(order) - 1))]
        yield row, np.argsort(-one.similarity[row], kind="stable")[:4].tolist()


def test_numbers_behind_the_panels(full_run):
    held = held_out(full_run)
    assert len(held) == 6
    assert {h.subject for h in held} == {"p0", "p1", "p2"}
    for h in held:
        share = each(h, "two_way_image", 10)
        assert share.mean() == pytest.approx(two_way_identification(h.similarity, h.label))
        assert share.mean() > 0.8
        assert np.diag(h.similarity).mean() > 0.5
    exact = held_out(made_bridge_run(noise=0.0))
    np.testing.assert_allclose([np.diag(h.similarity).min() for h in exact], 1, atol=1e-9)
    assert chance("brain_retrieval_top5", 50) == 0.1
    assert chance("two_way_text", 50) == 0.5
    parts = [e for (_, fold), e in sorted(full_run.estimates.items())]
    table = _table(parts, ["p0", "p1", "p2"], "cycle_correlation")
    own = [full_run.estimates["p1", fold]["cycle_correlation"].values for fold in (0, 1)]
    np.testing.assert_allclose(table[1], np.concatenate(own).mean(0))
    fits = [p for _, p in sorted(full_run.parameters.items())]
    volume = _volume(fits, "p0")
    assert np.isfinite(volume).sum() == 9
    assert np.nanmean(volume) == pytest.approx(1)
