"""Shapes, tolerances and inputs of poisson_lowrank_nll: one list for tests and benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

GRADIENTS = ("z", "weight", "offset", "variance")


class Case(NamedTuple):
    """One set of inputs.

    Attributes
    ----------
    name : str
    n_bins, n_neurons, n_latents : int
    masked : bool
        Whether a fifth of the bins is missing; they hold NaN.
    reduction : str
    counts, dtype : torch.dtype
    tolerance : float
        Relative error allowed to the fused form.
    """

    name: str
    n_bins: int
    n_neurons: int
    n_latents: int
    masked: bool = False
    reduction: str = "sum"
    counts: torch.dtype = torch.uint8
    dtype: torch.dtype = torch.float32
    tolerance: float = 1e-5


CASES = (
    Case("odd sizes", 70, 19, 3),
    Case("one of each", 1, 1, 1),
    Case("several tiles", 150, 131, 8),
    Case("a number a bin", 70, 19, 3, reduction="none", counts=torch.int64),
    Case("masked", 131, 67, 5, masked=True),
    Case("masked, a number a bin", 67, 33, 2, masked=True, reduction="none"),
    Case("many latents", 67, 33, 20, counts=torch.int32),
    Case("most latents", 67, 33, 64),
    Case("float counts", 67, 70, 4, masked=True, counts=torch.float32),
    Case("beyond the kernel", 20, 7, 65),
    Case("float64", 30, 7, 3, dtype=torch.float64, tolerance=1e-12),
)
SCALED = 256 * 500, 1024
# the gradient by the offset is what is left of two sums over all bins: rounding stands out in it
SUMMED = 3e-5
BENCH = (
    Case("scaled", *SCALED, 8, tolerance=SUMMED),
    Case("scaled, masked, a number a bin", *SCALED, 8, True, "none", tolerance=SUMMED),
    Case("scaled, more latents", *SCALED, 20, tolerance=SUMMED),
    Case("a session's bins", 1 << 20, 100, 6),
    Case("paper", 20 * 60, 100, 3),
)
SMOKE = (Case("smoke", 300, 40, 3),)


def make(case: Case, device: str | torch.device = "cpu", seed: int = 0) -> dict[str, Any]:
    """Draw the keyword arguments of one call."""
    g = torch.Generator(device=device).manual_seed(seed)
    kind = {"generator": g, "device": device, "dtype": case.dtype}
    M, N, P = case.n_bins, case.n_neurons, case.n_latents
    z = torch.randn(M, P, **kind)
    weight = torch.randn(N, P, **kind) * (0.7 / P**0.5)
    offset = torch.randn(N, **kind) * 0.3 - 1
    # drawn at the mean's rate by halves, so that nothing of bins times neurons is kept twice
    counts = torch.empty(M, N, dtype=case.counts, device=device)
    for part in torch.arange(M, device=device).chunk(8):
        rate = torch.addmm(offset, z[part], weight.T).exp()
        counts[part] = torch.poisson(rate, generator=g).clamp_(max=255).to(case.counts)
    variance = torch.rand(M, P, **kind) * 0.3
    mask = None
    if case.masked:
        mask = torch.rand(M, generator=g, device=device) > 0.2
        for table in (z, variance, *([counts] if counts.is_floating_point() else [])):
            table[~mask] = float("nan")
    return {
        "z": z,
        "weight": weight,
        "offset": offset,
        "variance": variance,
        "counts": counts,
        "mask": mask,
        "reduction": case.reduction,
    }


def errors(got: torch.Tensor, want: torch.Tensor, inputs: dict[str, Any]) -> dict[str, float]:
    """Relative error of the output; ``want`` may be of higher precision."""
    got, want = got.detach().double(), want.detach().double()
    return {"nll": float((got - want).norm() / want.norm().clamp(min=1e-30))}


def work(case: Case) -> dict[str, float]:
    """Bytes that must move once, and operations of the two products of the forward pass.

    Its gradient takes four more products and no further bytes of counts.
    """
    M, N, P = case.n_bins, case.n_neurons, case.n_latents
    size = torch.empty(0, dtype=case.counts).element_size()
    return {"bytes": float(size) * M * N + 4.0 * (4 * M * P + 2 * N * P), "tf32": 4.0 * M * N * P}
