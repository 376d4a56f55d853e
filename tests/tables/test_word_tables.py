from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_words import MODEL, WORD_RUNS, made_words_run

from neuropipe.decoded import N_PERMUTATIONS, permutation_p
from neuropipe.tables import resolve, suiting

OWN = ("class_decoding", "ablations", "contacts")


@pytest.fixture(scope="module")
def full_run():
    return made_words_run()


@pytest.mark.parametrize("kind", WORD_RUNS)
@pytest.mark.parametrize("name", suiting(MODEL))
def test_tabulates_every_run_of_words(name, kind):
    frame = resolve(name)(made_words_run(**WORD_RUNS[kind]))
    assert frame.columns.is_unique
    frame.to_csv(sep="\t", index=False, float_format="%.6g")


def test_run_without_fits_gives_tables_without_rows(full_run):
    empty = dataclasses.replace(
        full_run, parameters={}, estimates={}, scores=full_run.scores.iloc[:0]
    )
    for name in OWN:
        assert len(resolve(name)(empty)) == 0


def test_decoding_by_hand(full_run):
    table = resolve("class_decoding")(full_run)
    assert table["fold"].tolist() == ["0", "1", "all"]
    assert table["trials"].tolist() == [28, 28, 56]
    np.testing.assert_allclose(table["accuracy"], [0.75, 0.5, 0.625])
    assert (table["ci_low"] < table["accuracy"]).all()
    assert (table["accuracy"] < table["ci_high"]).all()
    # the wrong ones have their own class among the six that share the rest, so five never hold it
    np.testing.assert_allclose(table["top_5_accuracy"], [0.75, 0.5, 0.625])
    np.testing.assert_allclose(table["chance"], 1 / 7)
    np.testing.assert_allclose(table["p_value"], 1 / (1 + N_PERMUTATIONS))
    two = resolve("class_decoding")(made_words_run(n_classes=2, n_folds=1))
    assert np.isnan(two["top_5_accuracy"]).all()
    assert len(two) == 1


def test_guesses_at_random_are_no_better_than_chance():
    rng = np.random.default_rng(0)
    p = [
        permutation_p(rng.integers(4, size=60), rng.integers(4, size=60), seed=seed)
        for seed in range(40)
    ]
    assert np.mean(np.array(p) < 0.05) < 0.2
    assert 0.3 < np.mean(p) < 0.75
    assert permutation_p(np.zeros(9), np.zeros(9), seed=1) == 1


def test_ablations_are_paired_with_the_whole(full_run):
    table = resolve("ablations")(full_run)
    accuracy = table[table["metric"] == "accuracy"].set_index("left_out")
    scratch = accuracy.loc["units and hidden tokens: labelled trials only"]
    assert scratch["full_minus_this"] == pytest.approx(0.2)
    assert accuracy.loc["nothing", "mean"] == pytest.approx(0.625)
    rows = full_run.scores[full_run.scores["estimator"] != "du_in_from_scratch"]
    assert not len(resolve("ablations")(dataclasses.replace(full_run, scores=rows)))


def test_contacts_are_joined_over_folds_and_controlled(full_run):
    table = resolve("contacts")(full_run)
    assert table["channel"].tolist()[:2] in (["A2-A3", "B2-B3"], ["B2-B3", "A2-A3"])
    assert (table["folds"] == 2).all()
    fits = [full_run.parameters[MODEL, fold] for fold in (0, 1)]
    at = fits[0]["channel"].values.tolist().index("A2-A3")
    row = table.set_index("channel").loc["A2-A3"]
    want = np.mean([float(p["contact_contribution"][at]) for p in fits])
    assert row["contact_contribution"] == pytest.approx(want)
    assert row["z_score"] == pytest.approx(want / 0.05)
    assert (table["q_value"] < 0.05).tolist() == [True, True] + [False] * 6
    assert (table["q_value"] >= table["p_value"] - 1e-12).all()
    untested = resolve("contacts")(made_words_run(tested=False))
    assert untested["q_value"].isna().all()
    both = resolve("contacts")(made_words_run(n_subjects=2))
    assert both["subject"].nunique() == 2
    assert len(both) == 16
