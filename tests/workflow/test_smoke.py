"""A tiny study from nothing to its report, and what runs again after a change."""

import pandas as pd

RERUN = {"fit", "transform", "score", "figure", "table", "cost", "report", "pipelines"}


def test_end_to_end(finished):
    assert finished.code == 0, finished.said
    results = finished.results
    page = (results / "report" / "index.html").read_text()
    assert "Tiny" in page
    assert ">results/figure/states/" in page
    assert str(finished.folder) not in page
    assert len(list(results.glob("figure/states/*.svg"))) == 2
    tables = {p.stem for p in results.glob("table/states/*.tsv")}
    assert tables == {"scores", "recordings"}
    scores = pd.concat(pd.read_csv(p, sep="\t") for p in results.glob("score/states/*/*.tsv"))
    assert set(scores["estimator"]) == {"hmm_glm", "homogeneous_rate", "poisson_glm"}
    assert scores["value"].notna().all()
    assert set(scores["fold"]) == {0, 1}
    assert not list(results.glob("checkpoint/**/*.pt"))
    logs = {p.relative_to(results / "logs").parts[0] for p in results.glob("logs/*/**/*.log")}
    assert logs == {
        "fetch",
        "ingest",
        "quality",
        "preprocess",
        "fit",
        "transform",
        "score",
        "figure",
        "table",
    }
    left = [p for p in results.rglob(".*") if p.name.endswith((".part", ".partial", ".old"))]
    assert not left


def test_one_table_of_all_fits(finished):
    table = pd.read_csv(finished.results / "cost.tsv", sep="\t", na_values=["n/a"])
    assert len(table) == 6
    assert set(table["estimator"]) == {"hmm_glm", "homogeneous_rate", "poisson_glm"}
    assert table["bits_per_spike"].notna().all()
    assert "Cost of run states" in (finished.results / "report" / "index.html").read_text()


def test_nothing_is_written_outside_of_results(finished):
    made = {p.name for p in finished.folder.iterdir()}
    before = {"Snakefile", "workflow", "neuropipe", "kernels", "config", "data_manifests", "bin"}
    assert made - before == {"results", ".snakemake"}


def test_a_second_run_does_nothing(finished):
    code, said = finished.snakemake("--cores", "2", "pipelines")
    assert code == 0
    assert "Nothing to be done" in said


def test_cores_re_run_nothing(finished):
    assert finished.jobs("--cores", "1") == {}
    assert finished.jobs("--cores", "7") == {}


def test_a_parameter_re_runs_what_depends_on_it(finished, tiny_study):
    """Only the model's own jobs: what its baselines fitted and scored stays."""
    content = tiny_study()
    content["runs"]["states"]["parameters"]["max_iterations"] = 7
    jobs = finished.jobs("--configfile", str(finished.configure(content, "parameter.yaml")))
    assert set(jobs) == RERUN
    assert jobs["fit"] == jobs["score"] == jobs["transform"] == 2


def test_another_run_leaves_the_first_alone(finished, tiny_study):
    content = tiny_study()
    other = tiny_study()["runs"]["states"] | {"seed": 2, "baselines": [], "figures": []}
    content["runs"]["second"] = other
    jobs = finished.jobs("--configfile", str(finished.configure(content, "second.yaml")))
    assert jobs == {"split": 1, "fit": 2, "score": 2, "transform": 2, "table": 2, "cost": 1,
                    "report": 1, "pipelines": 1}  # fmt: skip


def test_a_step_re_runs_from_its_session_on(finished, tiny_study):
    content = tiny_study()
    content["datasets"]["tiny"]["preprocess"][0]["bin_width_s"] = 0.04
    jobs = finished.jobs("--configfile", str(finished.configure(content, "step.yaml")))
    assert {"fetch", "ingest"}.isdisjoint(jobs)
    assert jobs["preprocess"] == jobs["split"] == 1
    assert jobs["fit"] == 6
