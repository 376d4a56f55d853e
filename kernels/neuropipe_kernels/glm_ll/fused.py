"""Launch the Triton population log likelihood and its gradient by weight and bias."""

from __future__ import annotations

import os
from typing import Any

import torch
import triton

from neuropipe_kernels.glm_ll import tile_kernels as kernels
from neuropipe_kernels.glm_ll import wide

# Elements of the derivative by eta that are held at once in the backward.
BLOCK = 2**26
# The interpreter has no inline assembly.
FAST = os.environ.get("TRITON_INTERPRET", "0") != "1"


def serves(features: torch.Tensor) -> bool:
    """Say whether the kernels cover a call: float32 without a gradient by the features."""
    wanted = features.requires_grad and torch.is_grad_enabled()
    return features.dtype == torch.float32 and not wanted


def tile(n_neurons: int, n_features: int, precision: str) -> dict[str, int]:
    """Choose the tile of one program and its warps; larger ones spill registers."""
    bn = min(128, max(16, triton.next_power_of_2(n_neurons)))
    widest, stages = (32, 4) if precision == "tf32" else (64, 3)
    bf = min(widest, max(16, triton.next_power_of_2(n_features)))
    warps = 8 if bn > 32 else 4
    return {"BM": 128, "BN": bn, "BF": bf, "num_warps": warps, "num_stages": stages}


class _LogLikelihood(torch.autograd.Function):
    """Keep only the inputs; the backward recomputes eta tile by tile."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        w: torch.Tensor,
        b: torch.Tensor,
        y: torch.Tensor,
        observed: torch.Tensor | None,
        std: torch.Tensor,
        const: torch.Tensor,
        link: str,
        precision: str,
    ) -> torch.Tensor:
        n_bins, n_features = x.shape
        n_states, n_neurons, _ = w.shape
        masked = observed is not None
        observed = observed if masked else y
        meta = {
            "N": n_neurons,
            "K": n_states,
            "F": n_features,
            "MASKED": masked,
            "LINK": link,
            "PRECISION": precision,
            "FAST": FAST,
            **tile(n_neurons, n_features, precision),
        }
        ll = x.new_empty(n_bins, n_states)
        kernels.ll_kernel[(n_states, triton.cdiv(n_bins, meta["BM"]))](
            x, w, b, y, observed, std, const, ll, n_bins, **meta
        )
        ctx.save_for_backward(x, w, b, y, observed, std)
        ctx.meta = meta
        return ll

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, w, b, y, observed, std = ctx.saved_tensors
        meta = ctx.meta
        n_states, n_neurons, n_features = w.shape
        d_weight = torch.zeros_like(w).view(-1, n_features)
        d_bias = torch.zeros_like(b)
        n_block = max(meta["BM"], BLOCK // (n_states * n_neurons))
        g = g.contiguous()
        for start in range(0, x.shape[0], n_block):
            part = slice(start, start + n_block)
            xs, gs = x[part], g[part]
            n = xs.shape[0]
            d_eta = x.new_empty(n, n_states * n_neurons)
            n_programs = triton.cdiv(n, meta["BM"])
            sums = x.new_empty(n_programs, n_states, n_neurons)
            grid = (n_states * triton.cdiv(n_neurons, meta["BN"]), n_programs)
            kernels.slope_kernel[grid](
                xs, w, b, y[part], observed[part], std, gs, d_eta, sums, n, **meta
            )
            d_weight.addmm_(d_eta.T, xs)
            d_bias += sums.sum(0)
        return None, d_weight.view_as(w), d_bias, *(None,) * 6


def constant(
    y: torch.Tensor, observed: torch.Tensor | None, std: torch.Tensor, family: str
) -> torch.Tensor:
    """Sum the terms without the predictor over neurons, (time,)."""
    n_bins, n_neurons = y.shape
    if family == "bernoulli":
        return y.new_zeros(n_bins)
    const = y.new_empty(n_bins)
    kernels.constant_kernel[(triton.cdiv(n_bins, 64),)](
        y, y if observed is None else observed, std, const, n_bins, N=n_neurons,
        MASKED=observed is not None, FAMILY=family, FAST=FAST, BM=64,
        BN=min(64, max(16, triton.next_power_of_2(n_neurons))), num_warps=4,
    )  # fmt: skip
    return const


def log_likelihood(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    counts: torch.Tensor,
    link: str,
    family: str,
    mask: torch.Tensor | None,
    noise_std: torch.Tensor | None,
) -> torch.Tensor:
    """Sum the log density over neurons; arguments and result as the reference.

    Notes
    -----
    Narrow models never store the predictor: forward memory beyond the inputs is the result, and
    the backward holds the derivative by eta for a block of time (256 MiB at most). Wide ones
    (`wide`) keep the slope by eta for the backward, up to 4 GiB; where it is larger it is made
    again, block by block.
    """
    form = {"gaussian": "identity", "bernoulli": "bernoulli"}.get(family, link)
    std = bias.new_ones(1) if noise_std is None else noise_std.expand(bias.shape[1]).contiguous()
    x, w, b, y = (t.contiguous() for t in (features, weight, bias, counts))
    observed = None if mask is None else mask.contiguous().view(torch.uint8)
    const = constant(y, observed, std, family)
    exact = torch.get_float32_matmul_precision() == "highest"
    if wide.serves(w.shape[2], w.shape[0] * w.shape[1]):
        shape = {"LINK": form, "FAST": FAST}
        return wide.log_likelihood(x, w, b, y, observed, std, const, shape, exact)
    precision = "tf32x3" if exact else "tf32"
    return _LogLikelihood.apply(x, w, b, y, observed, std, const, form, precision)
