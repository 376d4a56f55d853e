"""Shapes, tolerances and inputs of vq_ema: one list for tests and benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from neuropipe_kernels.vq_ema.reference import unit

GRADIENTS = ()


class Case(NamedTuple):
    """One set of inputs.

    Attributes
    ----------
    name : str
    n_tokens, n_codes, n_dims : int
    twins : bool
        Whether every third code comes three times, so that ties decide.
    dtype : torch.dtype
    deterministic : bool
    tolerance : float
        Cosine that a fused choice may lose, and relative error of the sums.
    """

    name: str
    n_tokens: int
    n_codes: int
    n_dims: int
    twins: bool = False
    dtype: torch.dtype = torch.float32
    deterministic: bool = True
    tolerance: float = 1e-6


CASES = (
    Case("one token, one code", 1, 1, 1),
    Case("few", 70, 19, 5),
    Case("few, twins", 131, 48, 16, twins=True),
    Case("few, any order", 90, 33, 64, deterministic=False),
    Case("more tiles than programs", 300, 130, 20),
    Case("float64", 40, 7, 3, dtype=torch.float64, tolerance=1e-12),
)
BENCH = (
    Case("paper", 2560, 2048, 64, tolerance=2e-6),
    Case("large", 1 << 19, 2048, 64, tolerance=2e-6),
    Case("large, any order", 1 << 19, 2048, 64, deterministic=False, tolerance=2e-6),
    Case("large, twins", 1 << 17, 1024, 64, twins=True, tolerance=2e-6),
)
SMOKE = (Case("smoke", 200, 32, 16),)


def make(case: Case, device: str | torch.device = "cpu", seed: int = 0) -> dict[str, Any]:
    """Draw the keyword arguments of one call."""
    g = torch.Generator(device=device).manual_seed(seed)
    kind = {"generator": g, "device": device, "dtype": case.dtype}
    x = 3 * torch.randn(case.n_tokens, case.n_dims, **kind)
    code = unit(torch.randn(case.n_codes, case.n_dims, **kind))
    if case.twins:
        code[1::3] = code[::3][: len(code[1::3])]
        code[2::3] = code[::3][: len(code[2::3])]
    return {"x": x, "code": code, "deterministic": case.deterministic}


def errors(got: Any, want: Any, inputs: dict[str, Any]) -> dict[str, float]:
    """Cosine lost against the best code, ties not to the lowest code, and errors of the sums.

    Sums are judged by the call's own choices: two codes that float32 cannot tell apart may
    swap a token.
    """
    x, code = unit(inputs["x"].double()), inputs["code"].double()
    lost = 0.0
    for rows in torch.arange(len(x), device=x.device).split(2**14):
        score = x[rows] @ code.T
        own = score.gather(1, got.index[rows, None])[:, 0]
        lost = max(lost, float((score.amax(1) - own).max()))
    kind = torch.unique(code, dim=0, return_inverse=True)[1]
    number = torch.arange(len(code), device=x.device)
    lowest = number.clone().scatter_reduce_(0, kind, number, "amin", include_self=False)[kind]
    count = torch.bincount(got.index, minlength=len(code)).double()
    total = torch.zeros_like(code).index_add_(0, got.index, x)
    return {
        "cosine": lost,
        "ties": float((lowest[got.index] != got.index).sum()),
        "count": float((got.count.double() - count).abs().max()),
        "total": float((got.total.double() - total).norm() / total.norm().clamp(min=1e-30)),
    }


def work(case: Case) -> dict[str, float]:
    """Bytes that must move once: tokens and indices; operations of the scores in bfloat16."""
    n = case.n_tokens
    product = 2.0 * n * case.n_codes * case.n_dims
    # bfloat16 products run at twice the measured rate of tf32
    return {"bytes": 4.0 * n * (case.n_dims + 2), "tf32": product / 2}
