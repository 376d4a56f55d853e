"""What every benchmark row is made of: a timed call, the device, its ceilings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton


class Row(NamedTuple):
    """One timed way to compute a case: a thunk, its error and a note."""

    name: str
    call: Callable[[], Any]
    error: float | None = None
    note: str = ""


def device() -> str:
    """Return cuda where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def milliseconds(call: Callable[[], Any]) -> float:
    """Median time of a call, caches flushed between repeats on a GPU."""
    if device() == "cuda":
        call()
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if time.perf_counter() - start > 0.2:
            return (time.perf_counter() - start) * 1e3
        return triton.testing.do_bench(call, warmup=20, rep=100, return_mode="median")
    call()
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def graph(call: Callable[[], Any]) -> Callable[[], Any]:
    """Capture a call in a CUDA graph and return its replay; the call itself without CUDA."""
    if device() == "cpu":
        return call
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
        call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        kept = call()

    def replay() -> Any:
        captured.replay()
        return kept

    return replay


def ceilings(smoke: bool) -> dict[str, float]:
    """Measure bytes a second of a copy and operations a second of matrix products."""
    n, m = (1 << 16, 64) if smoke else (1 << 30, 8192)
    a = torch.randn(n, device=device())
    b = torch.empty_like(a)
    rates = {"bytes": 8.0 * n / milliseconds(lambda: b.copy_(a)) * 1e3}
    x, y = (torch.randn(m, m, device=device()) for _ in range(2))
    for name, precision in (("tf32", "high"), ("fp32", "highest")):
        torch.set_float32_matmul_precision(precision)
        rates[name] = 2.0 * m**3 / milliseconds(lambda: x @ y) * 1e3
    torch.set_float32_matmul_precision("highest")
    return rates


def relative(got: Any, want: Any) -> float:
    """Largest relative error over a tuple of tensors."""
    return max(
        float((a.double() - b.double()).norm() / b.double().norm())
        for a, b in zip(got, want, strict=True)
    )


def double(inputs: dict[str, Any]) -> dict[str, Any]:
    """Raise the floating tensors of one call to float64."""
    return {
        k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v
        for k, v in inputs.items()
    }
