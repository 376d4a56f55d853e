from __future__ import annotations

import numpy as np
import pytest
from made_bridge import BRIDGE_RUNS, MODEL, made_bridge_run

from neuropipe.identified import held_out
from neuropipe.retrieval import retrieval_accuracy
from neuropipe.tables import resolve, suiting

OWN = [name for name in suiting(MODEL) if name not in suiting("other")]


@pytest.fixture(scope="module")
def full_run():
    return made_bridge_run()


@pytest.mark.parametrize("kind", BRIDGE_RUNS)
@pytest.mark.parametrize("name", suiting(MODEL))
def test_tabulates_every_run_of_bridges(name, kind):
    frame = resolve(name)(made_bridge_run(**BRIDGE_RUNS[kind]))
    assert frame.columns.is_unique


def test_identification_by_hand(full_run):
    frame = resolve("identification")(full_run)
    assert len(frame) == 9
    row = frame[(frame["subject"] == "p1") & (frame["metric"] == "image_retrieval_top1")].iloc[0]
    mine = [h for h in held_out(full_run) if h.subject == "p1"]
    value = [retrieval_accuracy(h.similarity, 1, 10, h.label) for h in mine]
    assert row["value"] == pytest.approx(np.mean(value))
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert row["chance"] == pytest.approx(0.1)
    assert row["n_stimuli"] == 40
    two = frame[(frame["subject"] == "p1") & (frame["metric"] == "two_way_image")].iloc[0]
    assert two["best_baseline"] == "subject_ridge"
    scores = full_run.scores.query("session == 'p1' and estimator == 'subject_ridge'")["value"]
    assert two["baseline_value"] == pytest.approx(scores.mean())
    few = resolve("identification")(made_bridge_run(n_stimuli=4))
    assert set(few["metric"]) == {"two_way_image"}  # the pool is larger than what is held out


def test_adaptation_and_sizes_by_hand(full_run):
    frame = resolve("adaptation")(full_run)
    assert len(frame) == 18
    at = frame.query("fold == 1 and n_stimuli == 20 and approach == 'from scratch'")
    assert at["two_way_image"].tolist() == [0.6]
    assert at["new_subject"].tolist() == ["p2"]
    sizes = resolve("bridge_sizes")(full_run)
    assert sizes["voxels"].tolist() == [9, 10, 11] * 2
    assert set(sizes["parameters_total"]) == {30}
    assert set(sizes["training_seconds"]) == {2.5}
