"""Launch the Triton Poisson term; the gradient is made in the forward where that is possible."""

from __future__ import annotations

import os
from typing import Any

import torch
import triton

from neuropipe_kernels.poisson_lowrank_nll.tile_kernels import nll_kernel

MOST_LATENTS = 64
# Counts of these types are exact in bfloat16.
WHOLE = (torch.uint8, torch.int8)
EMULATE = os.environ.get("TRITON_INTERPRET", "0") == "1"


def serves(z: torch.Tensor) -> bool:
    """Say whether the kernel covers a call: float32, up to 64 latents, at least one bin."""
    return z.dtype == torch.float32 and z.shape[1] <= MOST_LATENTS and len(z) > 0


def tile(n_neurons: int, n_latents: int, gradient: bool) -> dict[str, Any]:
    """Choose the tile of one program, its warps, and whether counts are loaded a tile ahead.

    Larger tiles spill registers, and so does loading ahead with many latents and the gradient.
    """
    bp = max(8, triton.next_power_of_2(n_latents))
    few = bp <= 16
    bn = min(64 if bp <= 32 else 32, max(16, triton.next_power_of_2(n_neurons)))
    tiles = {"BM": 64, "BN": bn, "BP": bp, "AHEAD": few or not gradient, "num_warps": 4}
    if not gradient and bp <= 32:
        tiles |= {"BM": 128, "BN": min(bn, 64 if n_neurons > 128 else 32)}
        tiles["num_warps"] = 4 if few else 8
    return {**tiles, "num_stages": 2}


def launch(
    z: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    variance: torch.Tensor | None,
    counts: torch.Tensor,
    g: torch.Tensor | None,
    gradient: bool,
) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
    """Return the bins' terms, each times its `g` (bin,), and the gradients of their sum.

    Returns
    -------
    nll : (bin,)
    gradients : by z, weight, offset and variance; None each without `gradient`
    """
    z, weight, offset, counts = (t.contiguous() for t in (z, weight, offset, counts))
    n_bins, n_latents = z.shape
    n_neurons = len(weight)
    spread = variance is not None
    v = variance.contiguous() if spread else z
    meta = tile(n_neurons, n_latents, gradient)
    programs = triton.cdiv(n_bins, meta["BM"])
    nll = z.new_empty(n_bins)
    d_z = d_v = d_weight = d_offset = nll
    if gradient:
        d_z, d_v = torch.empty_like(z), torch.empty_like(v) if spread else nll
        d_weight = z.new_empty(programs, *weight.shape)
        d_offset = z.new_empty(programs, n_neurons)
    nll_kernel[(programs,)](
        z, v, weight, offset, counts, nll if g is None else g.contiguous(),
        nll, d_z, d_v, d_weight, d_offset, n_bins, n_neurons,
        P=n_latents, SPREAD=spread, WEIGHTED=g is not None, GRADIENT=gradient,
        WHOLE=counts.dtype in WHOLE, EMULATE=EMULATE, **meta,
    )  # fmt: skip
    if not gradient:
        return nll, (None,) * 4
    return nll, (d_z, d_weight.sum(0), d_offset.sum(0), d_v if spread else None)


class _Summed(torch.autograd.Function):
    """One number; its gradients come with it, and the backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        z: torch.Tensor,
        weight: torch.Tensor,
        offset: torch.Tensor,
        variance: torch.Tensor | None,
        counts: torch.Tensor,
        g: torch.Tensor | None,
    ) -> torch.Tensor:
        gradient = any(ctx.needs_input_grad)
        nll, made = launch(z, weight, offset, variance, counts, g, gradient)
        if gradient:
            ctx.save_for_backward(*made)
        return nll.sum(dtype=torch.float64).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        made = (None if t is None else t * grad for t in ctx.saved_tensors)
        return *made, None, None


class _Kept(torch.autograd.Function):
    """One number a bin; what each counts is known in the backward, which makes the tiles again."""

    @staticmethod
    def forward(
        ctx: Any,
        z: torch.Tensor,
        weight: torch.Tensor,
        offset: torch.Tensor,
        variance: torch.Tensor | None,
        counts: torch.Tensor,
        g: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(z, weight, offset, variance, counts, g)
        return launch(z, weight, offset, variance, counts, g, False)[0]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *inputs, g = ctx.saved_tensors
        made = launch(*inputs, grad if g is None else grad * g, True)[1]
        return *made, None, None


def expected_nll(
    z: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    variance: torch.Tensor | None,
    counts: torch.Tensor,
    mask: torch.Tensor | None,
    reduction: str,
) -> torch.Tensor:
    """Return the expected Poisson term; arguments and result as the reference.

    Notes
    -----
    Memory beyond inputs, result and gradients is the programs' parts of the gradients by weight
    and offset: n_latents / 64 of a float32 for each count.
    """
    g = None if mask is None else mask.to(z.dtype)
    form = _Summed if reduction == "sum" else _Kept
    return form.apply(z, weight, offset, variance, counts, g)
