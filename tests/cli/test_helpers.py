"""Data that cannot be reached, locks that were left behind, and what `doctor` finds broken."""

import json
import os
import shutil
import signal
import subprocess
import time

import h5py
import pandas as pd
import pytest
from PIL import Image

from neuropipe.io.store import verify_store

HEAD = "session_id\tsubject\tpath\tbytes\tsha256\n"
NOWHERE = "http://127.0.0.1:1/a.nwb"  # nobody listens on port 1: refused at once


@pytest.fixture
def unreachable(tmp_path, monkeypatch):
    """Manifest of a session that no network serves."""
    monkeypatch.setenv("NEUROPIPE_CACHE", str(tmp_path / "cache"))
    page = tmp_path / "far.yaml"
    page.write_text("title: Far\nlicence: CC0-1.0\nreader: nwb\nnodes: [spikes]\n")
    page.with_suffix(".tsv").write_text(f"{HEAD}s1\tm1\t{NOWHERE}\t100\t{'0' * 64}\n")
    return page


def test_an_optional_set_out_of_reach_is_skipped(unreachable, neuropipe, tmp_path, caplog):
    receipt = tmp_path / "s1.json"
    for skips in range(2):
        words = ("fetch", unreachable, "--session", "s1", "--output", receipt)
        assert neuropipe(*words, "--optional", "--skips", skips) == 0
        note = json.loads(receipt.read_text())
        assert note["status"] == "skipped"
        assert note["skips"] == skips + 1
        assert NOWHERE in note["reason"]
    lines = [r.getMessage() for r in caplog.records if "SKIPPED" in r.getMessage()]
    assert len(lines) == 2
    assert lines[0].startswith("SKIPPED data set far: ")


def test_a_required_set_out_of_reach_is_an_error(unreachable, refused, tmp_path):
    said = refused("fetch", unreachable, "--session", "s1", "--output", tmp_path / "s1.json")
    assert said.startswith("FetchError: ")
    assert not (tmp_path / "s1.json").exists()


def test_optional_does_not_excuse_wrong_bytes(refused, tmp_path):
    (tmp_path / "a.nwb").write_bytes(b"not what was promised")
    page = tmp_path / "near.yaml"
    page.write_text("title: Near\nlicence: CC0-1.0\nreader: nwb\nnodes: [spikes]\n")
    page.with_suffix(".tsv").write_text(f"{HEAD}s1\tm1\ta.nwb\t100\t{'0' * 64}\n")
    words = ("fetch", page, "--session", "s1", "--output", tmp_path / "s1.json", "--optional")
    assert "expected 100" in refused(*words)


@pytest.fixture
def locked(tmp_path):
    """A working folder that a killed Snakemake left locked."""
    locks = tmp_path / "work" / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("results/a\n")
    (locks / "0.output.lock").write_text("results/b\n")
    return tmp_path / "work"


def test_a_stale_lock_is_removed(locked, neuropipe, capsys):
    assert neuropipe("unlock", locked) == 0
    assert "removed the lock" in capsys.readouterr().out
    assert not (locked / ".snakemake" / "locks").exists()
    assert neuropipe("unlock", locked) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["snakemake", "neuropipe"])
def test_a_lock_is_kept_while_a_run_or_its_job_lives(locked, neuropipe, refused, tmp_path, name):
    """A job may outlive a Snakemake that was killed, and would still write its results."""
    program = tmp_path / "bin" / name
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nsleep 60 &\nwait\n")
    program.chmod(0o755)
    run = subprocess.Popen([str(program)], cwd=locked, start_new_session=True)
    try:
        time.sleep(0.2)
        said = refused("unlock", locked)
        assert f"another run lives here (process {run.pid})" in said
        assert (locked / ".snakemake" / "locks").exists()
        # a run in another folder is none of this folder's business
        other = tmp_path / "other"
        shutil.copytree(locked, other)
        assert neuropipe("unlock", other) == 0
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert neuropipe("unlock", locked) == 0
    assert not (locked / ".snakemake" / "locks").exists()


def doctor(neuropipe, capsys, study):
    capsys.readouterr()
    words = ("doctor", "--results", study.results, "--manifests", study.root)
    code = neuropipe(*words)
    return code, " ".join(capsys.readouterr().out.split())


def test_doctor_finds_nothing_wrong(study, neuropipe, capsys):
    code, said = doctor(neuropipe, capsys, study)
    assert code == 0
    for word in ("torch", "free disk", "GPU", "cores"):
        assert word in said


def test_doctor_names_what_is_broken(study, neuropipe, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    copy = tmp_path / "tiny"
    shutil.copytree(study.root, copy)
    (copy / "results" / "preprocess" / "tiny" / "s1.zarr" / "zarr.json").unlink()
    (copy / "tiny.tsv").write_text("session\n")
    words = ("doctor", "--results", copy / "results", "--manifests", copy)
    assert neuropipe(*words) == 1
    said = capsys.readouterr().out
    assert said.count("broken") == 2
    assert "s1.zarr" in said
    assert "tiny.yaml" in said
    verify_store(study.prepared)


def test_doctor_plans_a_study(study, neuropipe, capsys, tmp_path):
    config = tmp_path / "study.yaml"
    run = {"model": "hmm_glm", "dataset": "tiny", "seed": 1, "parameters": {"n_states": 2},
           "split": {"by": "trial", "folds": 2}}  # fmt: skip
    data = {"tiny": {"manifest": str(study.page)}}
    config.write_text(json.dumps({"study": "s", "datasets": data, "runs": {"r": run}}))
    assert neuropipe("doctor", "--plan", config, "--results", tmp_path / "none") == 0
    said = capsys.readouterr().out
    assert "8 jobs" in said.replace("\n", " ") or "10 jobs" in said
    assert "estimated" in said


def test_a_plan_is_made_from_anywhere(neuropipe, study, capsys, tmp_path, monkeypatch):
    place = tmp_path / "mine"
    (place / "pages").mkdir(parents=True)
    for name in ("tiny.yaml", "tiny.tsv"):
        (place / "pages" / name).write_bytes(study.page.with_name(name).read_bytes())
    config = place / "study.yaml"
    config.write_text(
        json.dumps({"study": "s", "datasets": {"tiny": {"manifest": "pages/tiny.yaml"}}})
    )
    monkeypatch.chdir(tmp_path)
    assert neuropipe("doctor", "--plan", config) == 0
    assert "4 jobs" in capsys.readouterr().out


def test_quality_writes_a_table_and_a_figure(study, neuropipe, tmp_path):
    table = tmp_path / "q" / "s1.tsv"
    assert neuropipe("quality", study.ingested, "--output", table) == 0
    checks = pd.read_csv(table, sep="\t")
    assert set(checks["verdict"]) <= {"PASS", "WARN", "FAIL"}
    assert "spikes" in set(checks["node"])
    assert "<svg" in table.with_suffix(".svg").read_text()


def test_a_level_of_quality_that_is_none_is_refused(study, refused, tmp_path):
    words = ("quality", study.ingested, "--output", tmp_path / "q.tsv", "--thresholds")
    assert "isi_violation" in refused(*words, '{"isi_violation": [0.1, 0.2]}')


def test_export_refuses_what_is_there_and_what_is_not(study, neuropipe, refused, tmp_path):
    there = tmp_path / "a.nwb"
    there.write_text("mine")
    words = ("export", study.ingested, "--to", "nwb", "--output")
    assert "is there already" in refused(*words, there)
    assert "no node 'spike'" in refused(*words, tmp_path / "b.nwb", "--nodes", "spike")
    assert "ending in .nwb" in refused(*words, tmp_path / "b.h5")
    assert neuropipe(*words, tmp_path / "b.nwb", "--nodes", "spikes,units") == 0
    assert there.read_text() == "mine"


def test_embed_writes_what_the_reader_of_bold_takes(neuropipe, refused, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for shade in (0, 255):
        Image.new("L", (20, 10), shade).save(images / f"grey{shade}.png")
    out = tmp_path / "e.h5"
    words = ("embed", images, "--output", out, "--extractor")
    assert neuropipe(*words, "pixels", "--set", "size=4") == 0
    with h5py.File(out) as file:
        assert file["stimulus"].asstr()[:].tolist() == ["grey0", "grey255"]
        assert file["embedding"][:].tolist() == [[0.0] * 16, [1.0] * 16]
    assert "size" in refused(*words, "pixels", "--set", "size=large")
    assert "did you mean 'pixels'" in refused(*words, "pixel")
    assert "lacks" in refused(*words, "clip", "--set", f"weights={tmp_path}")
