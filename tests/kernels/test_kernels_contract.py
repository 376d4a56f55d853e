"""Every op of the registry keeps one promise: the fused form equals the reference."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import torch

# Deterministic mode, which poisons fresh memory, asks this of cuBLAS before its first call.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from neuropipe_kernels import OPS
from neuropipe_kernels.plan import Plan

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_triton = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETED, reason="needs CUDA or TRITON_INTERPRET=1"
)


def every_case(which: str) -> list[Any]:
    """All cases of all ops as parameters."""
    return [
        pytest.param(name, case, id=f"{name}-{case.name}-{i}")
        for name in OPS
        for i, case in enumerate(getattr(import_module(f"neuropipe_kernels.{name}.cases"), which))
    ]


def op_of(name: str) -> Any:
    """Resolve one line of the registry."""
    module, _, attribute = OPS[name].partition(":")
    return getattr(import_module(module), attribute)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fill fresh memory with NaN, so that an element never written cannot pass."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def call(name: str, inputs: dict[str, Any], backend: str, seed: int) -> tuple[Any, list[Any]]:
    """Run one op and return its output and the gradient by each differentiable input."""
    cases = import_module(f"neuropipe_kernels.{name}.cases")
    leaves = {k: inputs[k].detach().clone().requires_grad_() for k in cases.GRADIENTS}
    out = op_of(name)(**{**inputs, **leaves}, backend=backend)
    if not leaves:
        return out, []
    first = out if isinstance(out, torch.Tensor) else out[0]
    g = torch.Generator(device=DEVICE).manual_seed(seed)
    weight = torch.rand(first.shape, generator=g, device=DEVICE, dtype=torch.float64)
    (first * weight.to(first.dtype)).sum().backward()
    return out, [v.grad for v in leaves.values()]


def close(name: str, case: Any, seed: int) -> None:
    """Compare fused and reference on one draw."""
    cases = import_module(f"neuropipe_kernels.{name}.cases")
    inputs = cases.make(case, DEVICE, seed)
    got, got_grads = call(name, inputs, "fused", seed)
    want, want_grads = call(name, inputs, "reference", seed)
    for label, error in cases.errors(got, want, inputs).items():
        assert error <= case.tolerance, f"{label} is off by {error:.2e}"
    for label, a, b in zip(cases.GRADIENTS, got_grads, want_grads, strict=True):
        gap = float((a - b).norm() / b.norm().clamp(min=1e-30))
        # A lone neuron's gradient is a small difference of two numbers near one.
        assert gap <= 10 * case.tolerance, f"gradient by {label} is off by {gap:.2e}"


@needs_triton
@pytest.mark.parametrize(("name", "case"), every_case("CASES"))
def test_fused_equals_reference(name: str, case: Any, poisoned: None) -> None:
    close(name, case, seed=3)


@needs_triton
@pytest.mark.parametrize("radices", [(3, 2), (2, 2, 3)])
@pytest.mark.parametrize("states", [3, 4, 9])
@pytest.mark.parametrize("name", ["hmm_fb", "viterbi"])
def test_deep_scans_and_turned_copies(
    name: str,
    states: int,
    radices: tuple[int, ...],
    poisoned: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What only long inputs reach: several levels of the scan, and copies turned for the lanes."""
    fused = import_module(f"neuropipe_kernels.{name}.fused")
    n = 1
    for radix in radices:
        n *= radix
    monkeypatch.setattr(fused, "plan", lambda *_: Plan(n, radices))
    if name == "hmm_fb":
        monkeypatch.setattr(fused, "TURN", 0)
    cases = import_module(f"neuropipe_kernels.{name}.cases")
    close(name, cases.Case("deep", 2, 53, states, ragged=True), seed=5)


def test_registry_names_what_can_be_called() -> None:
    import neuropipe_kernels

    for name in OPS:
        assert getattr(neuropipe_kernels, name) is op_of(name)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs CUDA")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "case"), every_case("BENCH"))
def test_bench_shapes_on_the_device(name: str, case: Any, seed: int, poisoned: None) -> None:
    close(name, case, seed)
