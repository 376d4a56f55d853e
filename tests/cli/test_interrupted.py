"""Fits that are killed, fail or meet a full disk: resumed to the same bits, never half there."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from neuropipe.errors import NeuropipeError
from neuropipe.training.checkpoint import Checkpoint

# Fits like the command line, writes every checkpoint, and is sent a signal after the n-th.
DRIVER = """
import os, signal, sys, torch
torch.set_num_threads(1)
from neuropipe.training import checkpoint
left, number = int(sys.argv.pop(1)), int(sys.argv.pop(1))
put = checkpoint.Checkpoint.put

def put_and_die(self, stage, state, *, done=False):
    global left
    self.every_s = 0.0
    self._written -= 1.0
    put(self, stage, state, done=done)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), number)

checkpoint.Checkpoint.put = put_and_die
from neuropipe.cli import main
main()
"""


def stages_of(path):
    return torch.load(path, weights_only=True)["stages"]


def read(path):
    return json.loads(path.read_text())


# 5 puts of screening, then 7 of the main stage: one a finished iteration, one at the end
@pytest.mark.parametrize(
    ("puts", "number", "status", "stage"),
    [
        (3, signal.SIGKILL, -signal.SIGKILL, "screen"),
        (5, signal.SIGKILL, -signal.SIGKILL, "screen"),
        (8, signal.SIGKILL, -signal.SIGKILL, "main"),
        (8, signal.SIGTERM, 85, "main"),
        (2, signal.SIGUSR1, 85, "screen"),
    ],
)
def test_an_ended_fit_resumes_to_the_same_bits(
    study, neuropipe, fit_command, tmp_path, puts, number, status, stage
):
    words, quick = fit_command
    out, kept = tmp_path / "fold-0" / "fit.json", tmp_path / "kept" / "fold-0.pt"
    command = list(map(str, words(study, "hmm_glm", out, kept, **quick)))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(puts), str(int(number)), *command],
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    assert status < 0 or "the same command goes on from there" in done.stderr
    assert not out.parent.exists()
    assert list(stages_of(kept))[-1] == stage
    assert neuropipe(*command) == 0
    assert read(out) == read(study.fit("hmm_glm"))
    assert not list(kept.parent.iterdir())
    assert [p.name for p in out.parent.parent.iterdir() if p.name.startswith(".")] == []


def test_a_checkpoint_of_other_data_is_not_taken(study, neuropipe, fit_command, tmp_path):
    words, quick = fit_command
    out, kept = tmp_path / "fold-0" / "fit.json", tmp_path / "fold-0.pt"
    Checkpoint(kept, "another fit").put("screen", {"parameters": ()}, done=True)
    assert neuropipe(*words(study, "hmm_glm", out, kept, **quick)) == 0
    assert read(out) == read(study.fit("hmm_glm"))


@pytest.fixture
def faulty(monkeypatch):
    """Return a function that makes the baseline fail while it is saved, after half its files."""

    def arm(error):
        from neuropipe.baselines.homogeneous_rate import HomogeneousRate

        def save(self, path):
            (path / "config.json").write_text("{")
            raise error

        monkeypatch.setattr(HomogeneousRate, "save", save)

    return arm


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("before", [False, True])
def test_a_fault_while_saving_leaves_what_was_there(
    study, neuropipe, fit_command, tmp_path, faulty, before
):
    words, _ = fit_command
    out = tmp_path / "fit" / "fold-0" / "fit.json"
    if before:
        assert neuropipe(*words(study, "homogeneous_rate", out)) == 0
    was = contents(tmp_path)
    faulty(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        neuropipe(*words(study, "homogeneous_rate", out))
    assert contents(tmp_path) == was


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
)
def test_a_full_disk_is_said_in_one_line(study, refused, fit_command, tmp_path, faulty, error):
    words, _ = fit_command
    faulty(error)
    said = refused(*words(study, "homogeneous_rate", tmp_path / "fold-0" / "fit.json"))
    assert "nothing half-written was left" in said
    assert "bytes free" in said
    assert not contents(tmp_path)


def test_a_folder_left_by_a_killed_run_is_cleared(study, neuropipe, fit_command, tmp_path):
    words, _ = fit_command
    for name in (".fold-0.part", ".fold-0.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.npz").write_bytes(b"half")
    assert neuropipe(*words(study, "homogeneous_rate", tmp_path / "fold-0" / "fit.json")) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["fold-0"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 2 MB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk, spare_bytes=0):
    """Leave so many bytes free, rounded down to whole pages."""
    path = disk / "ballast"
    with path.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:  # full: what this is for
            pass
        stream.truncate(max(0, stream.tell() - spare_bytes // 4096 * 4096))
    return path


@pytest.mark.parametrize("spare_bytes", [0, 16384])
@pytest.mark.parametrize("estimator", ["homogeneous_rate", "hmm_glm"])
def test_a_disk_that_is_really_full(
    study, neuropipe, refused, fit_command, tiny_disk, estimator, spare_bytes
):
    words, quick = fit_command
    parameters = quick if estimator == "hmm_glm" else {}
    command = words(study, estimator, tiny_disk / "fold-0" / "fit.json", **parameters)
    ballast = fill(tiny_disk, spare_bytes)
    said = refused(*command)
    assert "fold-0" in said
    assert "bytes free" in said
    assert [p.name for p in tiny_disk.iterdir()] == ["ballast"]
    ballast.unlink()
    assert neuropipe(*command) == 0
    assert read(tiny_disk / "fold-0" / "fit.json") == read(study.fit(estimator))


def test_a_checkpoint_on_a_full_disk(study, neuropipe, refused, fit_command, tiny_disk, tmp_path):
    words, quick = fit_command
    out = tmp_path / "fold-0" / "fit.json"
    command = words(study, "hmm_glm", out, tiny_disk / "fold-0.pt", **quick)
    ballast = fill(tiny_disk)
    assert "checkpoint" in refused(*command)
    assert not out.parent.exists()
    ballast.unlink()
    assert neuropipe(*command) == 0
    assert read(out) == read(study.fit("hmm_glm"))


@pytest.mark.parametrize("verb", ["preprocess", "split", "score"])
def test_other_verbs_on_a_full_disk(study, refused, tiny_disk, verb):
    words = {
        "preprocess": ["preprocess", study.ingested, "--output", tiny_disk / "s1.zarr"],
        "split": ["preprocess", study.prepared, "--split", '{"by": "trial", "folds": 2}',
                  "--seed", 1, "--output", tiny_disk / "r.json"],
        "score": ["score", study.fit("homogeneous_rate"), study.prepared, "--splits", study.splits,
                  "--run", "r", "--seed", 1, "--output", tiny_disk / "x.tsv"],
    }  # fmt: skip
    fill(tiny_disk)
    said = refused(*words[verb])
    assert str(tiny_disk) in said
    assert [p.name for p in tiny_disk.iterdir()] == ["ballast"]


def test_a_full_disk_leaves_the_checkpoint_of_before(tiny_disk):
    path = tiny_disk / "fold-0.pt"
    Checkpoint(path, "a").put("first", {"step": 1, "values": torch.ones(1000)}, done=True)
    before = path.read_bytes()
    ballast = fill(tiny_disk)
    full = Checkpoint(path, "a")
    with pytest.raises(NeuropipeError, match=r"what it held before is whole"):
        full.put("second", {"values": torch.ones(10000)}, done=True)
    assert path.read_bytes() == before
    ballast.unlink()
    full.put("second", {"values": torch.ones(10000)}, done=True)
    assert list(Checkpoint(path, "a").stages) == ["first", "second"]
