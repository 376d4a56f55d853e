"""Spoiled files end in a clear error or in the numbers that stand in them; nothing hangs."""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_files import FORMATS

CHILD = Path(__file__).with_name("fuzz_files.py")
FEW = {"nwb": 12, "matlab": 12}  # each is looked at in a child process first
SECONDS_A_FILE = 10


def run(kind, folder, first, last):
    limit_s = 60 + SECONDS_A_FILE * (last - first)
    child = subprocess.run(
        [sys.executable, "-W", "ignore", str(CHILD), kind, str(folder), str(first), str(last)],
        capture_output=True, text=True, timeout=limit_s, check=False,
    )  # fmt: skip
    lines = child.stdout.splitlines()
    wrong = [line for line in lines if line.startswith("WRONG")]
    assert child.returncode == 0, (lines[-1:], child.stderr[-1500:])
    assert not wrong, "\n".join(wrong)
    counts = lines[-1]
    assert counts.startswith("counts")
    assert "refused" in counts
    assert "read" in counts


@pytest.mark.parametrize("kind", FORMATS)
def test_spoiled_files_are_refused_or_read_right(kind, tmp_path):
    run(kind, tmp_path, 0, FEW.get(kind, 40))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_five_hundred_spoiled_files(kind, tmp_path):
    run(kind, tmp_path, 1000, 1500)
