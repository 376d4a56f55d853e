"""Shapes, tolerances and inputs of sos_scan: one list for tests and benchmark."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

GRADIENTS = ()


class Case(NamedTuple):
    """One set of inputs.

    Attributes
    ----------
    name : str
    n_bins, n_channels, n_sections : int
    cutoff : float
        High-pass edge in cycles a sample; small is a pole near 1.
    reverse, resumed : bool
        Backwards in time; with an entering state.
    dtype : torch.dtype
    tolerance : float
        Relative error allowed to the fused form.
    """

    name: str
    n_bins: int
    n_channels: int
    n_sections: int
    cutoff: float = 0.01
    reverse: bool = False
    resumed: bool = False
    dtype: torch.dtype = torch.float32
    tolerance: float = 1e-6


CASES = (
    Case("one bin", 1, 1, 1, resumed=True),
    Case("one chunk", 17, 3, 2),
    Case("two blocks of channels", 70, 33, 2, resumed=True),
    Case("reverse", 131, 5, 3, reverse=True, resumed=True),
    Case("poles near 1", 400, 2, 4, cutoff=0.5 / 2000),
    Case("float64", 203, 3, 2, dtype=torch.float64, resumed=True, tolerance=1e-11),
    Case("more sections than a group", 67, 2, 9, reverse=True, resumed=True),
)
BENCH = (
    Case("large", 1 << 20, 128, 4, cutoff=0.5 / 2000, tolerance=1e-5),
    Case("large, reverse", 1 << 20, 128, 4, cutoff=0.5 / 2000, reverse=True, tolerance=1e-5),
    Case("one minute", 1 << 17, 100, 4, cutoff=0.5 / 2000, tolerance=1e-5),
)
SMOKE = (Case("smoke", 500, 4, 2),)


def butterworth(n_sections: int, cutoff: float) -> torch.Tensor:
    """High-pass Butterworth filter of order 2 n_sections by the bilinear transform.

    Kept here so that the cases need torch only; a test holds it against scipy's design.
    """
    k = math.tan(math.pi * cutoff)
    rows = []
    for i in range(n_sections):
        damping = 2 * math.sin(math.pi * (2 * i + 1) / (4 * n_sections))
        a0 = 1 + damping * k + k * k
        rows.append(
            [1 / a0, -2 / a0, 1 / a0, 1, 2 * (k * k - 1) / a0, (1 - damping * k + k * k) / a0]
        )
    return torch.tensor(rows, dtype=torch.float64)


def make(case: Case, device: str | torch.device = "cpu", seed: int = 0) -> dict[str, Any]:
    """Draw the keyword arguments of one call: noise on a drift."""
    g = torch.Generator(device=device).manual_seed(seed)
    kind = {"generator": g, "device": device, "dtype": torch.float64}
    x = torch.randn(case.n_bins, case.n_channels, **kind)
    x += 0.1 * torch.randn(case.n_bins, case.n_channels, **kind).cumsum(0)
    zi = torch.randn(case.n_sections, 2, case.n_channels, **kind) if case.resumed else None
    return {
        "x": x.to(case.dtype),
        "sos": butterworth(case.n_sections, case.cutoff).to(device),
        "zi": zi,
        "reverse": case.reverse,
    }


def errors(got: Any, want: Any, inputs: dict[str, Any]) -> dict[str, float]:
    """Relative error of output and end state; ``want`` may be of higher precision."""
    gaps = {}
    for name, a, b in zip(("y", "zf"), got, want, strict=True):
        gaps[name] = float((a.double() - b.double()).norm() / b.double().norm())
    return gaps


def work(case: Case) -> dict[str, float]:
    """Bytes that must move: the signal in and out once."""
    return {"bytes": 8.0 * case.n_bins * case.n_channels}
