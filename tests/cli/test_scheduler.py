"""With a scheduler named, Dask's workers do the reading and writing, to the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import dask.array as da
import pytest
from distributed import get_client

from neuropipe.cli.scheduler import _sizes, scheduler
from neuropipe.errors import ConfigError
from neuropipe.models.du_in.simulate import Plan
from neuropipe.models.du_in.simulate import simulate as draw

STEPS = [{"step": "rereference", "scheme": "average"},
         {"step": "filter_signal", "low_hz": 2.0, "high_hz": 100.0}]  # fmt: skip
SCHEDULER = """
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True,
                      dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


@pytest.fixture
def address(tmp_path):
    """Address of a scheduler in processes of its own."""
    script = tmp_path / "cluster.py"
    script.write_text(SCHEDULER)
    child = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    yield child.stdout.readline().strip()
    child.communicate("\n", timeout=60)


@pytest.fixture
def receipt(tmp_path):
    """Receipt of a planted session in BrainVision."""
    from neuropipe.io.bids_write import write_bids

    plan = Plan(n_words=2, n_repetitions=2, n_runs=2, n_channels=6, n_speech=3, word_units=2)
    files = write_bids(draw(plan, 1)[0], tmp_path / "tree", task="words")
    note = tmp_path / "s.json"
    note.write_text(json.dumps({
        "status": "fetched", "dataset": "d", "session": "s", "subject": "m", "reader": "ieeg",
        "options": {}, "sha256": "0" * 64, "files": [{"path": str(f)} for f in files],
    }))  # fmt: skip
    return note


def content(neuropipe, receipt, folder):
    ingested, prepared = folder / "a.zarr", folder / "b.zarr"
    assert neuropipe("ingest", receipt, "--output", ingested) == 0
    words = ("--steps", json.dumps(STEPS), "--output", prepared)
    assert neuropipe("preprocess", ingested, *words) == 0
    found = [json.loads(p.with_suffix(".json").read_text()) for p in (ingested, prepared)]
    shutil.rmtree(folder)
    return [note["nodes"] for note in found]


def test_workers_write_what_threads_write(neuropipe, address, receipt, tmp_path, monkeypatch):
    here = content(neuropipe, receipt, tmp_path / "here")
    monkeypatch.setenv("NEUROPIPE_SCHEDULER", address)
    assert content(neuropipe, receipt, tmp_path / "there") == here


def test_a_scheduler_that_is_not_there_is_named(refused, receipt, tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROPIPE_SCHEDULER", "tcp://127.0.0.1:1")
    monkeypatch.setattr("neuropipe.cli.scheduler.WAIT_S", 1)
    said = refused("ingest", receipt, "--output", tmp_path / "a.zarr")
    assert "tcp://127.0.0.1:1" in said


def test_a_job_starts_as_many_workers_as_it_has_room_for(monkeypatch):
    monkeypatch.setenv("NEUROPIPE_THREADS", "8")
    monkeypatch.setenv("NEUROPIPE_MEMORY_MB", "4500")
    assert _sizes() == (4, 2, 1000)
    monkeypatch.setenv("NEUROPIPE_MEMORY_MB", "64500")
    assert _sizes() == (8, 1, 8000)
    monkeypatch.setenv("NEUROPIPE_MEMORY_MB", "700")
    assert _sizes() == (1, 8, 1000)
    monkeypatch.setenv("NEUROPIPE_MEMORY_MB", "4GB")
    with pytest.raises(ConfigError, match="NEUROPIPE_MEMORY_MB: found '4GB'"):
        _sizes()


@pytest.mark.slow
def test_workers_of_the_job_write_the_same_though_one_is_lost(
    neuropipe, receipt, tmp_path, monkeypatch
):
    here = content(neuropipe, receipt, tmp_path / "here")
    monkeypatch.setenv("NEUROPIPE_SCHEDULER", "local")
    monkeypatch.setenv("NEUROPIPE_THREADS", "2")
    monkeypatch.setenv("NEUROPIPE_MEMORY_MB", "4500")
    assert content(neuropipe, receipt, tmp_path / "there") == here

    def slow(block):
        time.sleep(0.2)
        return block + 1.0

    with scheduler():
        client = get_client()
        first = next(iter(client.run(os.getpid).values()))
        total = da.zeros(40, chunks=1).map_blocks(slow, dtype=float).sum()
        future = client.compute(total)
        time.sleep(1.0)
        os.kill(first, signal.SIGKILL)
        assert future.result(timeout=120) == 40.0
        assert first not in client.run(os.getpid).values()
