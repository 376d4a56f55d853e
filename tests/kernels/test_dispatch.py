"""Which form runs is decided in one place and said aloud."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from neuropipe_kernels import BackendUnavailable, hmm_fb
from neuropipe_kernels.dispatch import _why_not, use_fused


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUROPIPE_KERNELS", raising=False)


def test_cpu_takes_the_reference() -> None:
    assert not use_fused(torch.zeros(1))
    assert not use_fused(torch.zeros(1), "reference")


def test_forced_fused_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(BackendUnavailable, match="needs cuda"):
        use_fused(torch.zeros(1), "fused")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert use_fused(torch.zeros(1), "fused")


def test_missing_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuropipe_kernels.dispatch.find_spec", lambda _: None)
    _why_not.cache_clear()
    with pytest.raises(BackendUnavailable, match="not installed"):
        use_fused(torch.zeros(1), "fused")
    _why_not.cache_clear()


def test_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROPIPE_KERNELS", "reference")
    assert not use_fused(torch.zeros(1), "fused")
    monkeypatch.setenv("NEUROPIPE_KERNELS", "fast")
    with pytest.raises(ValueError, match="'fast', expected one of auto, reference, fused"):
        use_fused(torch.zeros(1))


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        hmm_fb(torch.zeros(1, 2, 2), torch.eye(2), torch.ones(2) / 2, backend="cuda")


def test_cpu_path_imports_no_triton() -> None:
    code = (
        "import sys, torch, neuropipe_kernels as k\n"
        "p = torch.full((2, 2), 0.5)\n"
        "k.hmm_fb(torch.zeros(1, 5, 2), p, p[0])\n"
        "k.viterbi(torch.zeros(1, 5, 2), p, p[0])\n"
        "k.glm_ll(torch.zeros(5, 1), torch.zeros(2, 3, 1), torch.zeros(2, 3), torch.zeros(5, 3))\n"
        "k.poisson_lowrank_nll(*(torch.ones(2, 2),) * 2, torch.ones(2), None, torch.ones(2, 2))\n"
        "k.sos_scan(torch.zeros(5, 1), torch.tensor([[1.0, 0, 0, 1, 0, 0]]))\n"
        "assert 'neuropipe_kernels.lanes' not in sys.modules\n"
        "sys.exit(any(m.endswith('.fused') for m in sys.modules if m.startswith('neuropipe')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
