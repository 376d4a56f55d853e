"""Population log likelihood of wide models: products by cuBLAS, what follows on what they left.

Time is taken in blocks, so that the linear predictor needs no more than a few hundred MiB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
import triton

from neuropipe_kernels.glm_ll import wide_kernels as kernels

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
# Features, and states times neurons, from which cuBLAS is ahead of a product in the kernel.
LEAST = 256
# Elements of the predictor in a block of the forward, and of the backward.
BLOCK, BACK_BLOCK = 2**25, 2**26
# Most elements of the slope that are kept for the backward; more are made again.
KEPT = 2**30
# Outputs from which the product over time pays for factors that lie along time, the only way in
# which tensor cores take tf32.
TURN = 1024
PLANES = 6  # products of bfloat16 that make one of float32
TILE = {"BM": 16, "num_warps": 4}


def serves(n_features: int, n_outputs: int) -> bool:
    """Say whether a model is wide: its features, and its states times neurons."""
    return min(n_features, n_outputs) >= LEAST


def planes(x: torch.Tensor, *, left: bool, along: int) -> torch.Tensor:
    """Return the six bfloat16 factors of a float32 product, side by side along an axis.

    A float32 is a sum of three bfloat16 a1 + a2 + a3; of the nine products with b1 + b2 + b3 six
    are larger than the rounding of float32: a3 b1, a1 b3, a2 b2, a2 b1, a1 b2, a1 b1, in this
    order, so that small ones are added first. The interpreter multiplies bfloat16 wrongly, so
    there the rounded numbers are float32.
    """
    n, m = x.shape
    shape = (n, PLANES * m) if along == 1 else (PLANES * n, m)
    out = x.new_empty(shape, dtype=torch.float32 if INTERPRETED else torch.bfloat16)
    kernels.planes_kernel[(triton.cdiv(n, 32), triton.cdiv(m, 128))](
        x, out, n, m, out.stride(0), m if along == 1 else n * m, LEFT=left, BM=32, BN=128,
        num_warps=4,
    )  # fmt: skip
    return out


def turned(x: torch.Tensor) -> torch.Tensor:
    """Return the transpose (m, n) of x (n, m), contiguous."""
    n, m = x.shape
    out = x.new_empty(m, n)
    kernels.turn_kernel[(triton.cdiv(n, 64), triton.cdiv(m, 64))](
        x, out, n, m, BM=64, BN=64, num_warps=4
    )
    return out


def product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Write the float32 product of (n, k) and (k, m), planes of bfloat16 or float32."""
    if a.dtype == torch.bfloat16:
        return torch.mm(a, b, out_dtype=torch.float32, out=out)
    return torch.mm(a, b, out=out)


def blocks(n_bins: int, n_outputs: int, elements: int) -> Iterator[slice]:
    """Yield blocks of time whose predictor has so many elements."""
    step = max(1, elements // n_outputs)
    for start in range(0, n_bins, step):
        yield slice(start, min(start + step, n_bins))


class _LogLikelihood(torch.autograd.Function):
    """Keep the slope by the predictor while it is not too large; else make it again."""

    @staticmethod
    def forward(
        ctx: Any,
        features: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        counts: torch.Tensor,
        observed: torch.Tensor | None,
        std: torch.Tensor,
        const: torch.Tensor,
        form: dict[str, Any],
        exact: bool,
    ) -> torch.Tensor:
        n_states, n_neurons, n_features = weight.shape
        n_bins, n_outputs = len(features), n_states * n_neurons
        flat = weight.view(n_outputs, n_features)
        w = planes(flat, left=False, along=1) if exact else flat
        ll = features.new_empty(n_bins, n_states)
        keep = any(ctx.needs_input_grad) and n_bins * n_outputs <= KEPT
        step = min(n_bins, max(1, BLOCK // n_outputs))
        held = features.new_empty(n_bins if keep else step, n_outputs)
        for part in blocks(n_bins, n_outputs, BLOCK):
            x = planes(features[part], left=True, along=1) if exact else features[part]
            n = part.stop - part.start
            eta = product(x, w.T, held[part] if keep else held[:n])
            kernels.sum_kernel[(n_states, triton.cdiv(n, TILE["BM"]))](
                eta, bias, counts[part], counts if observed is None else observed[part], std,
                const[part], ll[part], n, N=n_neurons, K=n_states, KEEP=keep,
                MASKED=observed is not None, BN=width(n_neurons), **form, **TILE,
            )  # fmt: skip
        ctx.save_for_backward(features, weight, bias, counts, observed, std, held if keep else None)
        ctx.form, ctx.exact = form, exact
        return ll

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        features, weight, bias, counts, observed, std, slope = ctx.saved_tensors
        n_states, n_neurons, n_features = weight.shape
        n_bins, n_outputs = len(features), n_states * n_neurons
        g = g.contiguous()
        flat = weight.view(n_outputs, n_features)
        w = planes(flat, left=False, along=1) if ctx.exact and slope is None else flat
        d_weight, d_bias = torch.zeros_like(flat), torch.zeros_like(bias)
        step = min(n_bins, max(1, BACK_BLOCK // n_outputs))
        d_eta = features.new_empty(step * n_outputs)
        eta = torch.empty_like(d_eta) if slope is None else d_eta
        own = torch.empty_like(flat)
        turn = not ctx.exact and n_outputs >= TURN
        for part in blocks(n_bins, n_outputs, BACK_BLOCK):
            x, n = features[part], part.stop - part.start
            source, made = (a[: n * n_outputs].view(n, n_outputs) for a in (eta, d_eta))
            if slope is None:
                left = planes(x, left=True, along=1) if ctx.exact else x
                product(left, w.T, source)
            else:
                source = slope[part]
            rows = triton.cdiv(n, TILE["BM"])
            sums = x.new_empty(rows, n_states, n_neurons)
            kernels.weigh_kernel[(n_states * triton.cdiv(n_neurons, width(n_neurons)), rows)](
                source, bias, counts[part], counts if observed is None else observed[part], std,
                g[part], made, sums, n, N=n_neurons, K=n_states, SLOPED=slope is not None,
                TURNED=turn, MASKED=observed is not None, BN=width(n_neurons),
                **ctx.form, **TILE,
            )  # fmt: skip
            d_bias += sums.sum(0)
            if ctx.exact:
                left = planes(made, left=True, along=0)
                d_weight += product(left.T, planes(x, left=False, along=0), own)
            elif turn:
                d_weight.addmm_(made.view(n_outputs, n), turned(x).T)
            else:
                d_weight.addmm_(made.T, x)
        return None, d_weight.view_as(weight), d_bias, *(None,) * 6


def log_likelihood(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    counts: torch.Tensor,
    observed: torch.Tensor | None,
    std: torch.Tensor,
    const: torch.Tensor,
    form: dict[str, Any],
    exact: bool,
) -> torch.Tensor:
    """Sum the log density over neurons, (time, state).

    Parameters
    ----------
    features, weight, bias, counts
        As of the public call, contiguous.
    observed : (time, neuron) uint8 or None
    std : (neuron,)
        Of Gaussian data.
    const : (time,)
        Sum of the terms without the predictor.
    form : dict
        Constants of the kernels: LINK, FAST.
    exact : bool
        Whether products keep float32 accuracy; else they follow torch's setting.
    """
    inputs = (features, weight, bias, counts, observed, std, const)
    return _LogLikelihood.apply(*inputs, form, exact)


def width(n_neurons: int) -> int:
    """Return the neurons of a tile."""
    return min(128, max(16, triton.next_power_of_2(n_neurons)))
