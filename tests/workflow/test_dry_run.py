"""What a run would do, and what is refused before any job starts."""

import copy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def test_the_default_study_plans_its_planted_run(work):
    """Offline: the optional set is only asked for when the plan is carried out."""
    content = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    made = work(content)
    jobs = made.jobs()
    planted = {n: r for n, r in content["runs"].items()
               if not content["datasets"][r["dataset"]].get("optional")}  # fmt: skip
    folds = sum(r["split"]["folds"] for r in planted.values())
    fits = sum(r["split"]["folds"] * (1 + len(r["baselines"])) for r in planted.values())
    assert planted
    assert jobs["split"] == len(planted)
    assert jobs["fit"] == jobs["score"] == fits
    assert jobs["transform"] == folds
    assert jobs["cost"] == jobs["report"] == jobs["pipelines"] == 1
    assert jobs["figure"] >= 6
    assert jobs["table"] >= 2
    assert not made.results.exists()


def test_every_kind_of_result_can_be_asked_for(work):
    jobs = work().jobs(
        "results/fetch/tiny/s1.json",
        "results/ingest/tiny/s1.json",
        "results/preprocess/tiny/s1.json",
        "results/preprocess/splits/states.json",
        "results/fit/states/poisson_glm/fold-1/fit.json",
        "results/transform/states/fold-0.json",
        "results/score/states/homogeneous_rate/fold-0.tsv",
        "results/figure/states/history_filters.svg",  # not in the study, yet on demand
        "results/table/states/edges.tsv",
        "results/report/index.html",
    )
    assert jobs == {"fetch": 1, "ingest": 1, "preprocess": 1, "quality": 1, "split": 1, "fit": 6,
                    "score": 6, "transform": 2, "figure": 3, "table": 3, "cost": 1,
                    "report": 1}  # fmt: skip


def test_the_report_has_its_tables_whatever_a_run_asks_for(work, tiny_study):
    content = tiny_study()
    content["runs"]["states"] |= {"tables": [], "figures": []}
    jobs = work(content).jobs()
    assert jobs["table"] == 2
    assert "figure" not in jobs


def changed(content, path, value):
    """Return a configuration with one value set; a path is keys joined by dots."""
    content = copy.deepcopy(content)
    *way, last = path.split(".")
    block = content
    for key in way:
        block = block[key]
    block[last] = value
    return content


REFUSALS = {
    "datasets.tiny.sessions": (["s1", "s1"], "session 's1' is listed twice"),
    "runs.states.dataset": (
        "tinny",
        "no data set 'tinny'; did you mean 'tiny'?",
    ),
    "datasets.tiny.session": ("all", "'datasets.tiny.session'; did you mean 'sessions'?"),
    "datasets.tiny.manifest": (
        "data_manifests/tinny.yaml",
        "did you mean 'tiny'?",
    ),
    "runs.states.model": ("hmm_gml", "unknown name 'hmm_gml'; did you mean 'hmm_glm'?"),
    "runs.states.baselines": (["poison_glm"], "did you mean 'poisson_glm'?"),
    "runs.states.figures": (["convergance"], "did you mean 'convergence'?"),
    "runs.states.tables": (["score"], "did you mean 'scores'?"),
    "runs.states": (
        {
            "model": "hmm_glm",
            "dataset": "tiny",
            "seed": 1,
            "tables": ["null_test"],
            "split": {"by": "block", "folds": 2, "window_s": 10.0},
        },
        "table 'null_test' is of ntf_connectome and does not suit hmm_glm",
    ),
    "datasets.tiny.preprocess": (
        [{"step": "bin_spikes", "bin_widht_s": 0.02}],
        "datasets.tiny.preprocess: step 0, bin_spikes: unknown parameter 'bin_widht_s'",
    ),
}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [(path, *case) for path, case in REFUSALS.items()]
    + [
        (
            "datasets.tiny.sessions",
            ["s1", "s9"],
            "datasets.tiny.sessions: no session 's9' in its manifest, data_manifests/tiny.yaml; "
            "known are s1",
        )
    ],
)
def test_refused_before_any_job(work, tiny_study, path, value, message):
    made = work(changed(tiny_study(), path, value))
    code, said = made.snakemake("--cores", "1", "pipelines")
    assert code == 1
    assert message in said
    assert "Error in file" in said
    assert "Error in rule" not in said
    assert not made.results.exists()
