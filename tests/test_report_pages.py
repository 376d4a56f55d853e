"""The pages of a study: all runs beside each other, subjects, jobs, chance, configuration."""

import base64
import json

import numpy as np
import pandas as pd
import pytest
from test_report import SVG, Page, a_check, a_run, a_study, page_of, score_rows

from neuropipe import report
from neuropipe.metrics import UNITS
from neuropipe.report import group, progress, words
from neuropipe.report.cautions import cautions
from neuropipe.report.nulls import nulls


def sessions(gains, metric="bits_per_spike"):
    """Scores of a session each, the model ahead of the baseline by the gains."""
    rows = [
        {"session": f"s{i}", "subject": f"m{i}", "metric": metric, "estimator": name, "value": v}
        for i, gain in enumerate(gains)
        for name, v in (("hmm_glm", 1.5 + gain), ("poisson_glm", 1.5))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (score_rows(), "won"),
        (score_rows(1.0, 1.5, -0.6, -0.4), "lost"),
        (score_rows(1.6, 1.5, -0.1, 0.3), "unclear"),
        (score_rows(1.6, 1.5, np.nan, np.nan, n=1), "no interval"),
        (score_rows().iloc[:1], "no baseline"),
        (score_rows().iloc[:0], "no score"),
    ],
)
def test_all_runs_stand_beside_each_other(scores, expected, tmp_path):
    study = a_study(a_run(scores=scores), a_run(run="second"))
    table = group.overview(study)
    assert table["outcome"].tolist() == [expected, "won"]
    assert table["fits converged"].tolist() == ["6 of 6", "6 of 6"]
    text = page_of(study, tmp_path)
    [link] = [a for a in Page(text).all("a") if a.get("download") == "all-runs.tsv"]
    tsv = base64.b64decode(link["href"].partition(",")[2]).decode()
    assert len(tsv.splitlines()) == 3


def test_a_subject_counts_once_however_many_sessions():
    frame = sessions([0.1, 0.2, 0.3, -0.4])
    again = frame[frame["subject"] == "m3"].assign(session="s9")
    found = group.by_subject(a_run(sessions=pd.concat([frame, again, again.assign(session="s8")])))
    assert found is not None
    table, said = found
    assert len(table) == 4
    np.testing.assert_allclose(table["model minus baseline"], [0.1, 0.2, 0.3, -0.4])
    assert said.startswith("Ahead of Poisson GLM in 3 of 4 subjects, by 0.05 in mean (95%")


def test_two_subjects_give_no_interval_and_one_no_table():
    found = group.by_subject(a_run(sessions=sessions([0.1, 0.2])))
    assert found is not None
    assert "too few subjects" in found[1]
    assert group.by_subject(a_run(sessions=sessions([0.1]))) is None
    assert group.by_subject(a_run()) is None


def jobs():
    nan = float("nan")
    return (
        report.Job("fetch", "mouse/s1", "mouse/s1", "done", 3.0, 100.0),
        report.Job("ingest", "mouse/s1", "mouse/s1", "failed", nan, nan, "ReaderError: cut short"),
        report.Job("fit", "first/hmm_glm/fold-0", "first", "done", 100.0, 400.0),
        report.Job("fit", "first/hmm_glm/fold-1", "first", "done", 80.0, 500.0),
        report.Job("score", "first/hmm_glm/fold-0", "first", "not begun"),
    )


def test_what_was_done_and_what_was_not(tmp_path):
    study = a_study(jobs=jobs(), quality=(a_check("s1", "PASS"),))
    said = "Of 5 jobs 3 done, 1 failed, 1 not begun; together they computed for 3 min."
    assert progress.jobs_sentence(study.jobs) == said
    table = progress.jobs_table(study, "first")
    assert table.set_index("job")["done"].to_dict() == {"fit": 2, "score": 0}
    assert table.set_index("job")["peak memory (MB)"]["fit"] == 500
    assert "failed" not in table
    text = page_of(study, tmp_path)
    assert said in text
    assert "ReaderError: cut short" in text


def test_the_page_of_a_recording_tells_its_steps_and_its_checksum(tmp_path):
    steps = ({"name": "bin_spikes", "parameters": {"bin_width_s": 0.02}, "version": "0.1.0"},)
    item = report.Quality("mouse", "s1", a_check("s1", "PASS").checks, a_check("s1").svg, steps)
    table = pd.DataFrame(
        {"dataset": ["mouse"], "session": ["s1"], "sha256": ["0f" * 32], "spikes": [13220.0],
         "units": [np.nan], "subject_name": ["Jane Doe"]}
    )  # fmt: skip
    study = a_study(quality=(item,), recordings=table)
    facts = dict(progress.facts(study, item))
    assert facts == {"sha256": "0f" * 32, "spikes": "13220"}
    page = Page(page_of(study, tmp_path))
    assert "bin_width_s" in page.text
    assert {"href": "#recording-1"} in page.all("a")
    assert "Jane Doe" not in page.text


def a_table(name, **columns):
    return report.Table(name, "Caption.", pd.DataFrame(columns))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            a_table("null_test", fold=[0, 0, 0], traces=["recorded", "shifted 1", "shifted 2"],
                    explained_variance=[0.5, 0.2, 0.3], p_value=[1 / 3, np.nan, np.nan]),
            "explains 0.5 of the variance, of the same traces shifted against each other 0.3 at "
            "most: more than all shifts in 1 of 1 folds (p 0.3333; 2 shifts can show no less than "
            "0.3333)",
        ),
        (
            a_table("behavior_decoding", estimator=["hmm_glm"] * 2, r=[0.8, 0.6],
                    r_by_chance=[0.1, 0.1], p_value=[0.01, 0.03]),
            "HMM-GLM decoded behaviour with r 0.7; 5% of circular shifts reach 0.1 "
            "(p at most 0.03)",
        ),
        (
            a_table("class_decoding", fold=["0", "all"], accuracy=[0.8, 0.9], chance=[0.25] * 2,
                    p_value=[0.002, 0.001]),
            "right in 25% of trials, the model was in 90% (p 0.001)",
        ),
        (
            a_table("identification", metric=["two_way_image"] * 2, chance=[0.5] * 2,
                    ci_low=[0.6, 0.4]),
            "Two-way identification of images: by chance 0.5; the whole interval is above it in 1 "
            "of 2 subjects.",
        ),
    ],
)  # fmt: skip
def test_chance_is_said_beside_the_scores(table, expected, tmp_path):
    run = a_run(tables=(table,))
    [said] = nulls(run)
    assert expected in said
    assert expected in Page(page_of(a_study(run), tmp_path)).text
    assert nulls(a_run()) == []


def shuffled(*p_values):
    rows = [
        {"fold": fold, "traces": traces, "explained_variance": v, "p_value": p}
        for fold, p in enumerate(p_values)
        for traces, v, p in (("recorded", 0.4, p), ("shifted 1", 0.6 * p, np.nan),
                             *((f"shifted {i}", 0.1, np.nan) for i in range(2, 20)))
    ]  # fmt: skip
    return report.Table("null_test", "Caption.", pd.DataFrame(rows))


def test_what_is_no_more_than_chance_is_a_warning(tmp_path):
    run = a_run(tables=(shuffled(0.05, 0.8),))
    text = Page(page_of(a_study(run), tmp_path)).text
    assert "No more than chance: in 1 of 2 folds" in text
    assert "explains 0.4, 0.4 of the variance" in text
    assert "0.1, 0.48 at most: more than all shifts in 1 of 2 folds (p at most 0.8" in text
    assert cautions(a_run(tables=(shuffled(0.05, 0.05),))) == []
    assert cautions(a_run()) == []


def test_one_loud_unit_and_brief_states_are_warnings(tmp_path):
    sessions = pd.DataFrame(
        {
            "session": ["s1", "s2"],
            "units": [25] * 2,
            "spikes": [9000] * 2,
            "busiest_unit": ["19", "3"],
            "busiest_share": [0.89, 0.2],
        }
    )
    states = a_table("states", state=[0, 1, 2], stay_probability=[0.98, 0.2, 0.1],
                     occupancy=[0.7, 0.29, 0.01], mean_dwell_s=[3.0, 0.0625, 0.05])  # fmt: skip
    text = Page(page_of(a_study(a_run(recordings=sessions, tables=(states,))), tmp_path)).text
    assert "One loud unit: 89% of the spikes of session s1 are of unit 19" in text
    assert "of session s2 are of unit" not in text
    assert "Brief states: 1 of 3 last 0.0625 s at most" in text


def test_what_has_nothing_to_show_is_a_line(tmp_path):
    empty = report.Figure("rank_choice", "A long caption.", SVG, notice="The rank was set to 6.")
    none = report.Table("group_recovery", "Recovery of groups, if planted: much. More.",
                        pd.DataFrame())  # fmt: skip
    text = Page(page_of(a_study(a_run(figures=(empty,), tables=(none,))), tmp_path)).text
    assert "Rank choice: The rank was set to 6." in text
    assert "Group recovery: no rows. Recovery of groups, if planted." in text
    assert "A long caption." not in text
    assert "No rows." not in text


def test_few_scores_never_won(tmp_path):
    few = a_run(scores=score_rows(1.0, 1.5, -0.6, -0.4, n=3))
    said = Page(page_of(a_study(few, a_run(scores=score_rows(n=3))), tmp_path)).text
    assert "the model was behind, on too few scores to say that it lost" in said
    assert "the model was ahead, on too few scores to say that it won" in said
    assert "ahead of every baseline, on too few scores to be sure in 1; a baseline was" in said
    assert "Baseline not beaten: Poisson GLM" in said


def test_the_configuration_travels_with_the_page(tmp_path):
    config = "study: mine\n"
    page = Page(page_of(a_study(config=config), tmp_path))
    [link] = [a for a in page.all("a") if a.get("download") == "config.yaml"]
    assert base64.b64decode(link["href"].partition(",")[2]).decode() == config


def test_trust_stands_in_the_page_of_its_run(tmp_path):
    table = report.Table("trust", "It recovers the truth.", pd.DataFrame({"what": ["states"]}))
    page = Page(page_of(a_study(a_run(trust=table)), tmp_path))
    assert "Can I trust this?" in page.text
    assert "It recovers the truth." in page.text
    assert {"href": "#run-1-trust"} in page.all("a")


def test_every_kind_of_number_reads_well():
    told = [words.number(v) for v in (13220.0, 0.12345, -2.5e9, 7, None, float("nan"))]
    assert told == ["13220", "0.1235", "−2.5e+09", "7", "–", "–"]


def test_a_configuration_is_no_code(tmp_path):
    hostile = json.dumps({"study": "</pre><script>alert(1)</script>"})
    assert not Page(page_of(a_study(config=hostile), tmp_path)).all("script")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("bits_per_spike", "Higher is better; 0 is what each unit's mean rate"),
        ("co_smoothing_r2", "Higher is better; 1 is all, 0 what the mean"),
        ("unit_cross_entropy", "Lower is better."),
        ("decoding_null_r", "A level of chance, which nobody wins."),
        ("two_way_text", "Higher is better; chance is 0.5."),
    ],
)
def test_every_score_says_which_way_is_better(metric, expected, tmp_path):
    run = a_run(scores=score_rows().assign(metric=metric))
    assert expected in Page(page_of(a_study(run), tmp_path)).text


def test_every_metric_has_a_meaning():
    assert all(words.meaning(metric).endswith(".") for metric in UNITS)
