"""A fit that several processes share, from the command line: one result, ended and resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from neuropipe.cli.fit import shareable
from neuropipe.io.store import open_recording

# Checkpoints are written at every chance.
EAGER = """
import sys
from neuropipe.training import checkpoint
made = checkpoint.Checkpoint.__init__

def eager(self, path, fingerprint, every_s=0.0):
    made(self, path, fingerprint, 0.0)

checkpoint.Checkpoint.__init__ = eager
"""


def read(path):
    return json.loads(path.read_text())


def start(words, folder):
    (folder / "sitecustomize.py").write_text(EAGER)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", ""), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "neuropipe.cli", *map(str, words), "--processes", "2"],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_what_can_be_shared():
    assert shareable("hmm_glm")
    assert shareable("du_in_from_scratch")
    assert not shareable("ridge_decoder")
    assert not shareable("no_such")


@pytest.mark.slow
def test_two_processes_give_one_result_and_resume(study, fit_command, tmp_path):
    words, quick = fit_command
    out, kept = tmp_path / "fold-0" / "fit.json", tmp_path / "kept" / "fold-0.pt"
    command = words(
        study, "hmm_glm", out, kept, **{**quick, "max_iterations": 150, "tolerance": 1e-12}
    )
    run = start(command, tmp_path)
    end = time.monotonic() + 200
    while not kept.exists() and run.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.0)
    run.send_signal(signal.SIGUSR1)
    said, _ = run.communicate(timeout=200)
    assert run.returncode != 0, said
    assert "the same command goes on from there" in said
    assert kept.exists()
    assert not out.exists()
    run = start(command, tmp_path)
    said, _ = run.communicate(timeout=500)
    assert run.returncode == 0, said
    assert said.count("resuming after") == 1  # said by the first one only
    assert not kept.exists()
    made = read(out.with_name("provenance.json"))
    assert (made["processes"], made["resumed"]) == (2, True)
    again = tmp_path / "fold-1" / "fit.json"
    other = words(
        study, "hmm_glm", again, None, **{**quick, "max_iterations": 150, "tolerance": 1e-12}
    )
    run = start(other, tmp_path)
    said, _ = run.communicate(timeout=500)
    assert run.returncode == 0, said
    whole, resumed = (open_recording(p.with_name("parameters.zarr")).to_dataset()
                      for p in (again, out))  # fmt: skip
    for name in whole:
        if whole[name].dtype.kind == "f":
            np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)
