"""Codes on the unit sphere: which one each token is nearest to, and how codes follow tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch

from neuropipe_kernels.dispatch import use_fused
from neuropipe_kernels.vq_ema.reference import gather, nearest, update

REAL = (torch.float32, torch.float64)
UNIT_WITHIN = 1e-3


class Codes(NamedTuple):
    """Where tokens went.

    Attributes
    ----------
    index : (token,) int64
        The code of largest cosine; of equal ones the lowest.
    count : (code,)
        Tokens of each code, dtype of the tokens.
    total : (code, dim)
        Sum of the unit vectors of each code's tokens, dtype of the tokens.
    """

    index: torch.Tensor
    count: torch.Tensor
    total: torch.Tensor


def vq_ema(
    x: torch.Tensor, code: torch.Tensor, *, deterministic: bool = True, backend: str = "auto"
) -> Codes:
    """Give every token the code of largest cosine, and sum tokens by code.

    Parameters
    ----------
    x : (token, dim)
        float32 or float64, finite, of any length; a row of zeros goes to code 0. A row that is
        not finite goes to some code.
    code : (code, dim)
        Dtype of ``x``; rows of length 1.
    deterministic : bool
        CUDA: sum in a fixed order, so that a call gives the same bits again; else by atomics,
        in whatever order programs finish.
    backend : str
        ``auto``, ``reference`` or ``fused``; see ``dispatch.use_fused``.

    Returns
    -------
    Codes

    Raises
    ------
    ValueError
        On wrong shapes or dtypes, when an input requires a gradient, or (on the CPU) when a code
        has not length 1.

    Notes
    -----
    The index is that of a float64 search. CPU: float64 scores in blocks of tokens. CUDA: a few
    tokens are scored by tf32x3 products, many first in bfloat16. The best scores are kept, never
    all of them, and the two best codes are compared in float64. Where the third best of bfloat16
    is near enough for rounding to have changed places (5 % of random tokens), all codes are
    scored again. Float64, more than 8192 codes or more than 128 dimensions take the reference.
    There is no gradient: a straight-through estimator copies that of its output.

    Source: van den Oord et al. (2017), appendix A; unit vectors as in Peng et al., BEiT v2
    (2022), which Du-IN follows.
    """
    _check(x, code)
    with torch.no_grad():
        if use_fused(x, backend):
            from neuropipe_kernels.vq_ema import fused

            if fused.serves(x, code):
                index = fused.nearest(x, code)
                return Codes(index, *fused.gather(x, index, len(code), deterministic))
        index = nearest(x, code)
        return Codes(index, *gather(x, index, len(code)))


def vq_update(
    code: torch.Tensor,
    size: torch.Tensor,
    count: torch.Tensor,
    total: torch.Tensor,
    *,
    decay: float,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Let codes follow the mean direction of their tokens.

    Parameters
    ----------
    code : (code, dim)
        Rows of length 1; left as it is.
    size : (code,)
        Moving average of `count`.
    count : (code,)
    total : (code, dim)
        Of `vq_ema`, perhaps summed over devices.
    decay : float
        Share of the old, in [0, 1).

    Returns
    -------
    code : (code, dim)
        ``unit(decay * code + (1 - decay) * unit(total))``; codes without a token stay.
    size : (code,)
        ``decay * size + (1 - decay) * count``.

    Raises
    ------
    ValueError
        On shapes that do not fit, or a decay outside of [0, 1).

    Notes
    -----
    CPU: plain torch. CUDA: float32 in one launch. Source: as `vq_ema`; the mean of a batch and
    its sum have the same direction.
    """
    n, dim = code.shape
    if size.shape != (n,) or count.shape != (n,) or total.shape != (n, dim):
        raise ValueError(
            f"vq_update: code {tuple(code.shape)}, size {tuple(size.shape)}, count "
            f"{tuple(count.shape)} and total {tuple(total.shape)} do not fit; expected (code, dim),"
            " (code,), (code,) and (code, dim)"
        )
    if not 0 <= decay < 1:
        raise ValueError(f"vq_update: decay is {decay}, expected at least 0 and below 1")
    with torch.no_grad():
        if use_fused(code, backend) and code.dtype == torch.float32:
            from neuropipe_kernels.vq_ema import fused

            if fused.serves(code, code):
                return fused.update(code, size, count, total, decay)
        return update(code, size, count, total, decay)


def _check(x: torch.Tensor, code: torch.Tensor) -> None:
    """Check one call."""
    for name, tensor in (("x", x), ("code", code)):
        if tensor.ndim != 2 or tensor.dtype not in REAL or 0 in tensor.shape:
            raise ValueError(
                f"vq_ema: {name} is {tensor.dtype} of shape {tuple(tensor.shape)}, expected "
                f"float32 or float64 of shape ({'token' if name == 'x' else 'code'}, dim)"
            )
        if tensor.requires_grad:
            raise ValueError(
                f"vq_ema: {name} requires a gradient, which this op does not have; pass "
                f"{name}.detach() and copy the gradient of the code to the token"
            )
    if x.shape[1] != code.shape[1] or x.dtype != code.dtype:
        raise ValueError(
            f"vq_ema: x is {x.dtype} of {x.shape[1]} dimensions and code {code.dtype} of "
            f"{code.shape[1]}; expected the same of both"
        )
    if not code.is_cuda:
        off = float((code.norm(dim=1) - 1).abs().max())
        if not off < UNIT_WITHIN:
            raise ValueError(
                f"vq_ema: a row of code has a length that is {off:.3g} off 1; divide each row by "
                "its length"
            )
