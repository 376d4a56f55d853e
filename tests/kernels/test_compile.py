"""Every kernel in every configuration compiles for the GPUs we aim at, without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_compiles_for_ampere_and_hopper(tmp_path: Path) -> None:
    script = Path(__file__).with_name("compile_offline.py")
    running = {}
    for capability in ("80", "90"):
        environment = {
            **os.environ,
            "TRITON_INTERPRET": "0",
            "TRITON_CACHE_DIR": str(tmp_path / capability),
        }
        running[capability] = subprocess.Popen(
            [sys.executable, str(script), capability],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
    for capability, process in running.items():
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, f"sm_{capability}: {errors}"
