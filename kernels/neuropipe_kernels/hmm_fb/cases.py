"""Shapes, tolerances and inputs of hmm_fb: one list for tests and benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

GRADIENTS = ("log_likelihood", "transition", "initial")


class Case(NamedTuple):
    """One set of inputs.

    Attributes
    ----------
    name : str
    n_sequences, n_bins, n_states : int
    dtype : torch.dtype
    ragged : bool
        Whether sequences differ in length.
    own_tables : bool
        Whether each sequence has its own transition and initial table.
    spread : float, nats
        Standard deviation of the log likelihoods.
    tolerance : float
        Relative error allowed to the fused form.
    """

    name: str
    n_sequences: int
    n_bins: int
    n_states: int
    dtype: torch.dtype = torch.float32
    ragged: bool = False
    own_tables: bool = False
    spread: float = 2.0
    tolerance: float = 1e-5


CASES = (
    Case("one bin", 1, 1, 3),
    Case("fewer bins than chunks", 3, 5, 2, ragged=True),
    Case("odd sizes", 2, 67, 5, ragged=True),
    Case("own tables", 3, 23, 4, own_tables=True, ragged=True),
    Case("float64", 2, 37, 4, dtype=torch.float64, tolerance=1e-11),
    Case("peaked", 1, 63, 3, spread=300.0),
    Case("eight states", 1, 19, 8),
    Case("tile of 16", 2, 43, 11, ragged=True),
    Case("tile of 32", 1, 39, 32, own_tables=True),
    Case("beyond the kernels", 1, 20, 33),
)
BENCH = (
    Case("large", 1, 1 << 22, 4),
    Case("large", 1, 1 << 22, 8),
    Case("large", 1, 1 << 22, 32),
    Case("many sequences", 256, 1 << 14, 8),
    Case("paper", 54, 750, 4),
)
SMOKE = (Case("smoke", 2, 200, 4), Case("smoke", 1, 100, 9))


def make(case: Case, device: str | torch.device = "cpu", seed: int = 0) -> dict[str, Any]:
    """Draw the keyword arguments of one call."""
    g = torch.Generator(device=device).manual_seed(seed)
    kind = {"generator": g, "device": device, "dtype": case.dtype}
    B, T, K = case.n_sequences, case.n_bins, case.n_states
    ll = torch.randn(B, T, K, **kind) * case.spread
    shape = (B, K) if case.own_tables else (K,)
    off = torch.softmax(torch.randn(*shape, K, **kind), -1)
    transition = 0.95 * torch.eye(K, device=device, dtype=case.dtype) + 0.05 * off
    lengths = None
    if case.ragged:
        lengths = torch.randint(1, T + 1, (B,), generator=g, device=device)
        lengths[0] = T
    return {
        "log_likelihood": ll,
        "transition": transition,
        "initial": torch.softmax(torch.randn(*shape, **kind), -1),
        "lengths": lengths,
    }


def errors(got: Any, want: Any, inputs: dict[str, Any]) -> dict[str, float]:
    """Relative error of each output; ``want`` may be of higher precision."""
    return {
        name: float(
            (a.detach().double() - b.detach().double()).norm()
            / b.detach().double().norm().clamp(min=1e-30)
        )
        for name, a, b in zip(want._fields, got, want, strict=True)
    }


def work(case: Case) -> dict[str, float]:
    """Bytes that must move and float32 operations that must be done."""
    bins = case.n_sequences * case.n_bins
    return {"bytes": 8.0 * bins * case.n_states, "fp32": 10.0 * bins * case.n_states**2}
