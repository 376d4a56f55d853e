"""What a batch system does to a job in its middle, and what becomes of its result: the same."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from test_cluster import needs_slurm

FIT = "results/fit/states/hmm_glm/fold-0/fit.json"
SPLITS = "results/preprocess/splits/states.json"
PROFILE = ("--workflow-profile", "workflow/profiles/slurm", "--latency-wait", "10",
           "--seconds-between-status-checks", "2",
           "--slurm-init-seconds-before-status-checks", "2",
           "--set-resources", "fit:runtime=20")  # fmt: skip
# Read by every Python that starts in the working folder: fits of the model go slowly, keep their
# progress at once and, where a file says so, take much memory in their middle.
SLOW = """
import os, sys, time
if "fit" in sys.argv and "hmm_glm" in sys.argv:
    from neuropipe.training import checkpoint
    made, put = checkpoint.Checkpoint.__init__, checkpoint.Checkpoint.put

    def eager(self, path, fingerprint, every_s=0.0):
        made(self, path, fingerprint, 0.0)
        self.puts = 0

    def slowly(self, stage, state, *, done=False):
        put(self, stage, state, done=done)
        self.puts += 1
        if os.path.exists("hungry") and self.puts == 3:
            self.ballast = bytearray(os.urandom(1)) * 1_200_000_000
        for _ in range(PAUSE * 10):
            if checkpoint.STOP.is_set():
                break
            time.sleep(0.1)

    checkpoint.Checkpoint.__init__, checkpoint.Checkpoint.put = eager, slowly
"""

pytestmark = [needs_slurm, pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def ready(work, finished):
    """A working folder whose data are prepared, and whose fit of the model takes its time."""
    assert finished.code == 0, finished.said
    made = work()
    local = ("--cores", "1", "--workflow-profile", "workflow/profiles/local")
    code, said = made.snakemake(*local, SPLITS)
    assert code == 0, said

    def slow(pause_s):
        (made.folder / "sitecustomize.py").write_text(SLOW.replace("PAUSE", str(pause_s)))
        return made

    return slow


def submitted(run, heard, seconds=120):
    """Return the number of the next job that Snakemake says it has submitted."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        line = run.stdout.readline()
        heard.append(line)
        found = re.search(r"SLURM jobid (\d+)", line)
        if found:
            return found[1]
    raise AssertionError("".join(heard))


def wait_for(path, seconds=300):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} is not there"
        time.sleep(0.2)


def ended_with_the_same(made, finished, *, resumed=True):
    """Whether the fit is that of a study that nothing disturbed, and went on from its progress."""
    expected = json.loads((finished.folder / FIT).read_text())
    assert json.loads((made.folder / FIT).read_text()) == expected
    note = json.loads((made.folder / FIT).with_name("provenance.json").read_text())
    assert note["resumed"] is resumed
    assert not list(made.results.glob("checkpoint/**/*.pt"))


def test_cancelled(ready, finished):
    made = ready(2)
    run, heard = made.start(*PROFILE, "--", FIT), []
    job = submitted(run, heard)
    wait_for(made.results / "checkpoint/states/hmm_glm/fold-0.pt")
    subprocess.run(["scancel", job], check=True)
    again = submitted(run, heard)
    said, _ = run.communicate(timeout=600)
    assert run.returncode == 0, "".join(heard) + said
    assert again != job
    ended_with_the_same(made, finished)


def test_out_of_time(ready, finished):
    """Told before two minutes are up, up to one earlier than asked; twelve steps need two."""
    made = ready(8)
    short = ("fit:runtime=2", "fit:slurm_extra='--signal=USR1@30'", "--retries", "8")
    run = made.start(*PROFILE[:-1], *short, "--", FIT)
    said, _ = run.communicate(timeout=1200)
    assert run.returncode == 0, said
    assert len(set(re.findall(r"SLURM jobid (\d+)", said))) >= 2
    ended_with_the_same(made, finished)


def test_out_of_memory(ready, finished):
    """The first try may take a gigabyte, the second two."""
    made = ready(1)
    (made.folder / "hungry").touch()
    code, said = made.snakemake(*PROFILE, "--", FIT)
    assert code == 0, said
    assert len(set(re.findall(r"SLURM jobid (\d+)", said))) >= 2
    ended_with_the_same(made, finished)


def test_snakemake_killed_and_started_again(ready, finished):
    """Jobs that it left still run: unlock names them, and once they are gone makes way."""
    made = ready(2)
    run, heard = made.start(*PROFILE, "--", FIT), []
    job = submitted(run, heard)
    wait_for(made.results / "checkpoint/states/hmm_glm/fold-0.pt")
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    with pytest.raises(subprocess.CalledProcessError):
        made.unlock()
    subprocess.run(["scancel", job], check=True)
    end = time.monotonic() + 120
    while job in subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True,
                                check=True).stdout.split():  # fmt: skip
        assert time.monotonic() < end
        time.sleep(1)
    made.unlock()
    code, said = made.snakemake(*PROFILE, "--", FIT)
    assert code == 0, said
    assert re.findall(r"^fit +(\d+)$", said, re.MULTILINE)[0] == "1"
    assert not re.findall(r"^(?:fetch|ingest|preprocess|split) +\d", said, re.MULTILINE)
    ended_with_the_same(made, finished)
