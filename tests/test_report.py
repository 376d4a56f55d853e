from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from neuropipe import report
from neuropipe.report import words

HOSTILE = '"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>{{ 7 * 7 }}'
SVG = (
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="144pt" height="72pt">'
    "<text>x</text></svg>"
)
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects elements, and checks that they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def score_rows(model=2.0, best=1.5, low=0.4, high=0.6, n=6):
    return pd.DataFrame(
        {
            "metric": "bits_per_spike",
            "units": "bits/spike",
            "estimator": ["hmm_glm", "poisson_glm"],
            "role": ["model", "best baseline"],
            "mean": [model, best],
            "ci_low": [model - 0.1, best - 0.1],
            "ci_high": [model + 0.1, best + 0.1],
            "n": n,
            "folds": n,
            "sessions": 1,
            "model_minus_estimator": [np.nan, model - best],
            "difference_ci_low": [np.nan, low],
            "difference_ci_high": [np.nan, high],
            "n_pairs": [np.nan, n],
        }
    )


def a_run(**changes):
    values = {
        "run": "first",
        "model": "hmm_glm",
        "dataset": "mouse",
        "seed": 1,
        "settings": {"n_states": 3},
        "splits": {"by": "block", "folds": 6, "buffer_s": 2.0},
        "converged": {"hmm_glm": (True,) * 6, "poisson_glm": (True,) * 6},
        "scores": score_rows(),
        "recordings": pd.DataFrame(
            {"session": ["s1"], "units": [10], "spikes": [9000], "missing_share": [0.0]}
        ),
        "figures": (report.Figure("convergence", "Course of the fits.", SVG),),
        "tables": (
            report.Table("edges", "Edges.", pd.DataFrame({"q_value": np.linspace(0, 1, 40)})),
        ),
    }
    return report.RunReport(**{**values, **changes})


def a_study(*runs, **changes):
    values = {
        "title": "A study",
        "runs": runs or (a_run(),),
        "recordings": pd.DataFrame(
            {
                "session": ["s1"],
                "subject": ["m1"],
                "source": ["s1.nwb"],
                "sha256": ["0f" * 32],
                "date_of_birth": ["2001-02-03"],
                "subject_name": ["Jane Doe"],
            }
        ),
        "datasets": (
            report.DataSource("mouse", "Mice", "10.1234/abc", "CC-BY-4.0", "nwb", "Doe 2020"),
            report.DataSource("planted", "Planted", reader="nwb", simulated=True),
        ),
        "provenance": {"neuropipe": "0.1.0"},
        "command": "neuropipe report",
    }
    return report.StudyReport(**{**values, **changes})


def page_of(study, folder):
    report.render(study, folder / "report.html")
    assert [p.name for p in folder.iterdir()] == ["report.html"]
    return (folder / "report.html").read_text(encoding="utf-8")


def test_page_is_whole_and_loads_nothing(tmp_path):
    text = page_of(a_study(), tmp_path)
    page = Page(text)
    assert text.lstrip().startswith("<!doctype html>")
    assert page.all("html")[0]["lang"] == "en"
    assert not page.all("script")
    for tag, attribute in (("img", "src"), ("link", "href")):
        assert all(attrs[attribute].startswith("data:") for attrs in page.all(tag))
    assert all(a["href"].startswith(("#", "data:")) for a in page.all("a"))
    assert not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in text


def test_contents_lead_to_places(tmp_path):
    page = Page(page_of(a_study(a_run(), a_run(run="second")), tmp_path))
    places = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    targets = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    assert targets <= places
    assert {"summary", "run-2", "run-2-figures", "methods", "skipped"} <= targets


def test_figures_are_images_with_captions(tmp_path):
    page = Page(page_of(a_study(), tmp_path))
    [image] = page.all("img")
    assert image["alt"] == "Course of the fits."
    kind, _, data = image["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data).decode() == SVG


def test_tables_are_cut_and_travel_whole(tmp_path):
    text = page_of(a_study(), tmp_path)
    assert "First 15 of 40 rows." in text
    [link] = [a for a in Page(text).all("a") if a.get("download") == "first-edges.tsv"]
    tsv = base64.b64decode(link["href"].partition(",")[2]).decode()
    assert len(tsv.splitlines()) == 41
    assert tsv.splitlines()[0] == "q_value"


def test_a_very_long_table_stays_in_its_file(tmp_path):
    table = report.Table("edges", "Edges.", pd.DataFrame({"x": np.zeros(20_001)}))
    text = page_of(a_study(a_run(tables=(table,))), tmp_path)
    assert "too long to travel" in text
    assert len(text) < 200_000


def test_hostile_names_are_only_text(tmp_path):
    run = a_run(
        run=HOSTILE,
        model=HOSTILE,
        dataset=HOSTILE,
        settings={HOSTILE: HOSTILE},
        splits={"by": HOSTILE},
        converged={HOSTILE: (False,)},
        scores=score_rows().replace("hmm_glm", HOSTILE).replace("bits/spike", HOSTILE),
        recordings=pd.DataFrame({"session": [HOSTILE], "units": [5], "spikes": [1]}),
        figures=(report.Figure(HOSTILE, HOSTILE, f"<svg><script>{HOSTILE}</script></svg>"),),
        tables=(report.Table(HOSTILE, HOSTILE, pd.DataFrame({HOSTILE: [HOSTILE]})),),
        warnings=(HOSTILE,),
    )
    study = a_study(
        run,
        title=HOSTILE,
        recordings=pd.DataFrame({"session": [HOSTILE], "source": [HOSTILE]}),
        datasets=(report.DataSource(*[HOSTILE] * 6),),
        skipped=(report.Skipped(HOSTILE, HOSTILE),),
        provenance={HOSTILE: HOSTILE},
        command=HOSTILE,
        bibtex=(HOSTILE,),
    )
    page = Page(page_of(study, tmp_path))
    assert not page.all("script")
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert "{{ 7 * 7 }}" in page.text


def test_no_name_or_birth_date_of_a_subject(tmp_path):
    text = page_of(a_study(), tmp_path)
    assert "m1" in text
    assert "Jane Doe" not in text
    assert "2001-02-03" not in text


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (score_rows(), "0.5 bits/spike more than the best baseline, Poisson GLM"),
        (score_rows(), "the model won"),
        (score_rows(1.0, 1.5, -0.6, -0.4), "the model lost"),
        (score_rows(1.6, 1.5, -0.1, 0.3), "neither clearly won"),
        (score_rows(1.6, 1.5, np.nan, np.nan, n=1), "too few folds"),
        (score_rows().iloc[:1], "no baseline to compare"),
        (score_rows().iloc[1:], "no finite held-out score"),
        (score_rows().iloc[:0], "no finite held-out score"),
    ],
)
def test_verdict_in_plain_words(scores, expected, tmp_path):
    run = a_run(scores=scores)
    assert expected in words.verdict(run)
    page_of(a_study(run), tmp_path)


def test_explained_variance_is_preferred_where_there_are_no_spikes(tmp_path):
    other = score_rows(5.0, 6.0).assign(metric="a_first_one")
    rows = score_rows(0.5, 0.4, 0.05, 0.2).assign(metric="explained_variance", units="1")
    names = {"hmm_glm": "ntf_connectome", "poisson_glm": "plain_cp"}
    rows["estimator"] = rows["estimator"].map(names)
    run = a_run(
        model="ntf_connectome",
        scores=pd.concat([other, rows]),
        converged={"ntf_connectome": (True,), "plain_cp": (True,)},
        recordings=pd.DataFrame({"session": ["s"], "units": [9], "spikes": [np.nan]}),
    )
    said = words.verdict(run)
    assert "NTF connectome reached 0.5 of explained variance" in said
    assert "0.1 of explained variance more than the best baseline, plain CP" in said
    assert words.warnings(run) == []
    assert words.score_tables(run)[1][0] == "explained variance (dimensionless)"
    text = Page(page_of(a_study(run), tmp_path)).text
    for part in ("dyballa2024dynamic", "kossaifi2019tensorly", "what an animal does not show"):
        assert part in text
    assert "allen2014tracking" not in text


def test_co_smoothing_is_said_of_models_of_two_modalities(tmp_path):
    names = {"hmm_glm": "mm_gpvae", "poisson_glm": "smoothed_factors"}
    rows = [
        score_rows(0.5, 0.4, 0.05, 0.2).assign(metric=metric, units=units)
        for metric, units in (
            ("behavior_from_neural_r2", "1"),
            ("co_smoothing_bits_per_spike", "bits/spike"),
        )
    ]
    rows = pd.concat(rows)
    rows["estimator"] = rows["estimator"].map(names)
    run = a_run(
        model="mm_gpvae",
        scores=rows,
        converged={"mm_gpvae": (True,), "smoothed_factors": (True,), "gpfa": (True,)},
    )
    said = words.verdict(run)
    assert "MM-GPVAE reached 0.5 bits/spike of co-smoothing" in said
    assert "more than the best baseline, smoothed factor analysis" in said
    assert words.score_tables(run)[0][0] == "R2 of behaviour from neural activity (dimensionless)"
    only = a_run(model="mm_gpvae", scores=rows[2:].assign(metric="co_smoothing_r2", units="1"))
    assert "MM-GPVAE reached 0.5 R2 of co-smoothing" in words.verdict(only)
    text = Page(page_of(a_study(run), tmp_path)).text
    for part in ("gondur2024multimodal", "RRID:SCR_003833", "pei2021nlb", "pedregosa2011scikit"):
        assert part in text
    assert text.count("@article{yu2009gpfa") == 1


def test_accuracy_is_said_of_decoders(tmp_path):
    rows = score_rows(0.9, 0.8, 0.05, 0.2).assign(metric="accuracy", units="1")
    rows["estimator"] = rows["estimator"].map({"hmm_glm": "du_in", "poisson_glm": "band_power_lda"})
    run = a_run(model="du_in", scores=rows, converged={"du_in": (True,), "band_power_lda": (True,)})
    said = words.verdict(run)
    assert "Du-IN reached 0.9 of accuracy" in said
    assert "more than the best baseline, LDA of band power" in said
    text = Page(page_of(a_study(run), tmp_path)).text
    for part in ("zheng2024duin", "pedregosa2011scikit", "no sigmoid stands before the classes"):
        assert part in text
    assert "lawhern2018eegnet" not in text


def test_summary_says_what_was_left_out():
    study = a_study(skipped=(report.Skipped("arena", "its index could not be reached."),))
    assert "Left out: arena (its index could not be reached)." in words.summary(study)
    assert "The model predicted held-out data better than every baseline." in words.summary(study)
    both = a_study(a_run(), a_run(scores=score_rows(1.0, 1.5, -0.6, -0.4)))
    told = (
        "Of 2 runs, the model predicted held-out data better than every baseline in 1; a baseline"
    )
    assert told in words.summary(both)
    assert words.convergence(study.runs[0]) == "All 6 fits converged."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"converged": {"hmm_glm": (True, False)}}, "Not converged: HMM-GLM, 1 of 2 fits"),
        ({"scores": score_rows(1.0, 1.5, -0.6, -0.4)}, "Baseline ahead: Poisson GLM"),
        ({"scores": score_rows(1.6, 1.5, -0.1, 0.3)}, "No clear gain"),
        ({"scores": score_rows(n=3)}, "rest on 3 scores"),
        ({"scores": score_rows(n=1)}, "only one score"),
        ({"scores": score_rows().iloc[:0]}, "No score: HMM-GLM"),
        (
            {"recordings": pd.DataFrame({"session": ["s"], "units": [10], "spikes": [50]})},
            "Few spikes: session s has 5 spikes a unit",
        ),
        (
            {"recordings": pd.DataFrame({"session": ["s"], "missing_share": [0.5]})},
            "50% of session s was not recorded",
        ),
        ({"warnings": ("One thing more.",)}, "One thing more."),
    ],
)
def test_warnings_in_plain_words(changes, expected):
    assert any(expected in sentence for sentence in words.warnings(a_run(**changes)))


def test_a_sound_run_has_no_warning():
    assert words.warnings(a_run()) == []


def test_references_name_only_what_was_used(tmp_path):
    text = Page(page_of(a_study(), tmp_path)).text
    for key in ("li2024onehot", "rubel2022nwb", "benjamini1995fdr", "10.1234/abc", "CC-BY-4.0"):
        assert key in text
    assert "@misc{planted" not in text
    other = a_study(a_run(model="other", tables=()), datasets=())
    folder = tmp_path / "other"
    folder.mkdir()
    text = Page(page_of(other, folder)).text
    for key in ("li2024onehot", "rubel2022nwb", "benjamini1995fdr"):
        assert key not in text


def a_check(session, *verdicts):
    rows = [
        {"node": "ieeg", "item": f"A{i}", "check": "line_ratio", "value": 1.0, "units": "1",
         "verdict": verdict, "reason": f"reason {i}"}
        for i, verdict in enumerate(verdicts)
    ]  # fmt: skip
    return report.Quality("mouse", session, pd.DataFrame(rows), SVG)


def test_quality_is_said_in_summary_and_beside_its_figure(tmp_path):
    checks = (a_check("s1", "PASS", "WARN", "FAIL"), a_check("s2", "PASS"))
    text = page_of(a_study(quality=checks), tmp_path)
    assert "Quality of the recordings: 1 PASS, 1 FAIL." in text
    failed, passed = text.split('<h3 id="h-recording-1">')[1].split('<h3 id="h-recording-2">')
    assert failed.index("FAIL: ieeg, line ratio, A2: reason 2") < failed.index(
        "WARN: ieeg, line ratio, A1: reason 1"
    )
    assert "reason 0" not in passed.split("</article>")[0]
    assert "Quality of mouse, s1: FAIL" in failed
    assert "checked before anything was fitted" in text


def test_many_remarks_become_one(tmp_path):
    text = page_of(a_study(quality=(a_check("s1", *["WARN"] * 40),)), tmp_path)
    assert "40 of them (A0, A1, A2, A3, A4, A5 ...), the first: reason 0" in text


def test_a_study_of_recordings_only(tmp_path):
    study = a_study(quality=(a_check("s1", "PASS"),))
    text = page_of(report.StudyReport(**{**vars(study), "runs": ()}), tmp_path)
    assert "Baselines" not in text
    assert "This study checked 1 recording" in text
    assert "No model was fitted" in text


def test_methods_name_the_steps_with_what_was_set(tmp_path):
    history = (
        {"name": "read_ieeg", "parameters": {"unit": ""}},
        {"name": "filter_signal", "parameters": {"low_hz": 0.5, "notch_hz": [50, 100]}},
        {"name": "rereference", "parameters": {"scheme": "bipolar"}},
    )
    checked = [report.Quality("mouse", s, a_check(s, "PASS").checks, SVG, history) for s in "ab"]
    text = Page(page_of(a_study(quality=tuple(checked)), tmp_path)).text
    said = "filter_signal (low_hz 0.5, notch_hz 50 and 100), then rereference (scheme bipolar)."
    assert text.count(f"Recordings of mouse went through these steps: {said}") == 1


def test_same_study_gives_same_bytes(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        page_of(a_study(), folder)
    first, second = ((tmp_path / f / "report.html").read_bytes() for f in "ab")
    assert first == second


def test_a_study_of_nothing(tmp_path):
    study = report.StudyReport("Nothing", (), pd.DataFrame(), skipped=(report.Skipped("x", "y"),))
    assert "This study checked 0 recordings" in Page(page_of(study, tmp_path)).text
