"""Contraction of affinities in plain torch, block by block of rows; the CPU path and the truth."""

from __future__ import annotations

import torch

# Entries that are made at once: few enough to stay in a core's cache.
BLOCK = 2**17
# Entries that rows are padded to multiples of; of codes, so that they begin at whole lines.
VECTOR, LINE = 16, 128
# What is taken from a code, 0 to 255, to store it as int8.
OFFSET = 128
# Rows of a factor that are updated at once.
ROWS = 2**15


def padded(x: torch.Tensor) -> torch.Tensor:
    """Return a copy of x (n, m) whose rows begin at whole vectors of memory, zeros between."""
    n, m = x.shape
    return x.new_zeros(n, row_length(m, x.dtype))[:, :m].copy_(x)


def row_length(n: int, dtype: torch.dtype) -> int:
    """Return the number of entries from one row of n to the next in `padded` memory."""
    step = LINE if dtype == torch.int8 else VECTOR
    return -(-n // step) * step


def signed_root(d: torch.Tensor) -> torch.Tensor:
    """Return sign(d) sqrt|d|, with which geo becomes the positive part of a product."""
    return d.sign() * d.abs().sqrt()


def affinity(d_i: torch.Tensor, d_j: torch.Tensor, form: str) -> torch.Tensor:
    """Return the affinity of two derivatives, broadcast."""
    if form == "geo":
        d_i, d_j, form = signed_root(d_i), signed_root(d_j), "prod"
    if form == "prod":
        return (d_i * d_j).clamp_(min=0)
    low = torch.minimum(d_i, d_j).clamp_(min=0)
    if form == "minpos":
        return low
    return low.sub_(torch.maximum(d_i, d_j).clamp_(max=0))


def contract(
    data: torch.Tensor, factor: torch.Tensor, over: str, form: str, scale: float
) -> torch.Tensor:
    """Sum X times factor over pairs or rows; arguments as ``ntf_sweep``."""
    if form == "stored":
        out = _stored(data, factor, over)
    else:
        if form == "geo":
            data, form = signed_root(data), "prod"
        out = _made(data, factor, over, form)
    return out.mul_(scale) if scale != 1.0 else out


def _stored(data: torch.Tensor, factor: torch.Tensor, over: str) -> torch.Tensor:
    if data.dtype == factor.dtype:
        return data @ factor if over == "pair" else data.T @ factor
    n_rows, n_pairs = data.shape
    step = max(1, 16 * BLOCK // n_pairs)
    out = factor.new_zeros(n_rows if over == "pair" else n_pairs, factor.shape[1])
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        block = data[rows].to(factor.dtype)
        if data.dtype == torch.int8:
            block += OFFSET
        if over == "pair":
            out[rows] = block @ factor
        else:
            out.addmm_(block.T, factor[rows])
    return out


def _made(d: torch.Tensor, factor: torch.Tensor, over: str, form: str) -> torch.Tensor:
    n_rows, n_units = d.shape
    n_pairs = n_units * (n_units - 1) // 2
    out = factor.new_zeros(n_rows if over == "pair" else n_pairs, factor.shape[1])
    step = max(1, BLOCK // n_units)
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        block, first = d[rows], 0
        for i in range(n_units - 1):
            pairs = slice(first, first + n_units - 1 - i)
            first = pairs.stop
            x = affinity(block[:, i, None], block[:, i + 1 :], form)
            if over == "pair":
                out[rows].addmm_(x, factor[pairs])
            else:
                out[pairs].addmm_(x.T, factor[rows])
    return out


def update(
    product: torch.Tensor,
    current: torch.Tensor,
    gram: torch.Tensor,
    group: torch.Tensor | None,
    rule: str,
    rounds: int,
    floor: float,
) -> torch.Tensor:
    """Improve rows (start, row, component); arguments as ``ntf_update``."""
    out = torch.empty_like(current)
    for start in range(0, current.shape[1], ROWS):
        rows = slice(start, start + ROWS)
        own = gram if group is None else gram[:, group[rows]]
        out[:, rows] = _update(product[:, rows], current[:, rows], own, rule, rounds, floor)
    return out


def _update(
    product: torch.Tensor,
    current: torch.Tensor,
    gram: torch.Tensor,
    rule: str,
    rounds: int,
    floor: float,
) -> torch.Tensor:
    """``gram`` (start, 1 or row, component, component)."""
    # Columns in turn are contiguous in (component, start, row).
    f = current.permute(2, 0, 1).clone()
    m = product.permute(2, 0, 1)
    h = gram.permute(2, 3, 0, 1)
    seen = h.diagonal().sum(-1) > 0
    tiny = torch.finfo(f.dtype).tiny
    rank = f.shape[0]
    for _ in range(rounds):
        if rule == "mu":
            below = torch.einsum("ckn,crkn->rkn", f, h.expand(-1, -1, -1, f.shape[2]))
            f = torch.where(seen, (f * m / below.clamp(min=tiny)).clamp(min=floor), f)
            continue
        for r in range(rank):
            gap = m[r] - (f * h[:, r]).sum(0)
            best = (f[r] + gap / h[r, r].clamp(min=tiny)).clamp(min=floor)
            f[r] = torch.where(seen, best, f[r])
    return f.permute(1, 2, 0).contiguous()
