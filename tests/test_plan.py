"""The plan of a study: from manifests, from stores that are there, from what jobs took before."""

import json

import pytest

from neuropipe.config import check_study
from neuropipe.plan import BASE_MB, memory_mb, plan, stored_bytes

PAGE = "title: T\nlicence: CC0\nreader: nwb\nnodes: []\n"
ROW = "session_id\tsubject\tpath\tbytes\tsha256\ns1\tm\tbig.nwb\t20000000000\t{}\n"


@pytest.fixture
def study(tmp_path):
    (tmp_path / "d.yaml").write_text(PAGE)
    (tmp_path / "d.tsv").write_text(ROW.format("a" * 64))
    run = {"model": "hmm_glm", "dataset": "d", "seed": 1, "parameters": {"n_states": 2},
           "split": {"by": "trial", "folds": 2}, "baselines": ["homogeneous_rate"]}  # fmt: skip
    data = {"d": {"manifest": "d.yaml"}}
    return check_study({"study": "s", "datasets": data, "runs": {"r": run}})


def note(path, rows):
    counts = {"shape": [rows, 100], "dtype": "uint16"}
    names = {"shape": [10], "dtype": "StringDType()"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"nodes": {"counts": {"spike_count": counts, "name": names}}}))


def test_memory_of_a_stream_does_not_grow_with_the_file_but_time_does(study, tmp_path):
    jobs = {(j.rule, j.name): j for j in plan(study, tmp_path / "results", tmp_path)}
    ingest = jobs["ingest", "d/s1"]
    assert ingest.memory_mb == BASE_MB["ingest"]
    assert ingest.seconds > 20 * 20
    assert ingest.basis == "estimated"
    assert {rule for rule, _ in jobs} >= {"fetch", "quality", "preprocess", "fit", "transform"}
    assert sum(rule == "fit" for rule, _ in jobs) == 2 * 2


def test_memory_of_a_fit_grows_with_what_is_prepared(study, tmp_path):
    path = tmp_path / "results" / "preprocess" / "d" / "s1.json"
    assert stored_bytes(path) is None
    note(path, 1_000_000)
    assert stored_bytes(path) == 2 * 100 * 1_000_000 + 640
    assert memory_mb("fit", [path]) == pytest.approx(BASE_MB["fit"] + 6 * 200, abs=1)
    fits = [j for j in plan(study, tmp_path / "results", tmp_path) if j.rule == "fit"]
    assert {j.memory_mb for j in fits} == {memory_mb("fit", [path])}


def test_what_a_job_took_before_is_believed(study, tmp_path):
    told = tmp_path / "results" / "benchmarks" / "ingest" / "d" / "s1.tsv"
    told.parent.mkdir(parents=True)
    told.write_text("s\th:m:s\tmax_rss\n12.5\t0:00:12\t400.0\n")
    [job] = [j for j in plan(study, tmp_path / "results", tmp_path) if j.rule == "ingest"]
    assert (job.memory_mb, job.seconds, job.basis) == (520, 12.5, "measured before")
