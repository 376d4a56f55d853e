"""Launch the Triton contraction of affinities and the update of factors."""

from __future__ import annotations

import os

import torch
import triton

from neuropipe_kernels.ntf_sweep import code_kernels
from neuropipe_kernels.ntf_sweep import tile_kernels as kernels
from neuropipe_kernels.ntf_sweep.reference import padded, signed_root

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
# Programs that fill the device; those over codes each keep more loads in flight.
TARGET, CODES_TARGET = 4096, 158
# Terms of a sum of products of bytes whose result fits 32 bits.
MOST_TERMS = 2**16
# Units i that share one loaded tile of units j; made_over_rows is written out for them.
UNITS = 4
MOST_COLUMNS = 64


def serves(data: torch.Tensor, factor: torch.Tensor, over: str) -> bool:
    """Say whether the kernels cover a call: float32 factors, data not float64, codes in line."""
    if factor.dtype != torch.float32 or data.dtype == torch.float64:
        return False
    return data.dtype != torch.int8 or data.stride(1 if over == "pair" else 0) == 1


def planes(factor: torch.Tensor) -> torch.Tensor:
    """Return a float32 factor as a sum of two bfloat16, (2, n, column), for short data.

    The interpreter multiplies bfloat16 wrongly, so there the rounded numbers stay float32.
    """
    high = factor.bfloat16()
    out = torch.stack([high, (factor - high).bfloat16()])
    return out.float() if INTERPRETED else out


def tile(n_columns: int, form: str, over: str) -> dict[str, int]:
    """Choose the tile of one program and its warps."""
    columns = min(MOST_COLUMNS, max(16, triton.next_power_of_2(n_columns)))
    if form == "stored":
        wide = 64 if over == "pair" else 128
        return {"BL": 64, "BP": wide, "BR": columns, "num_warps": 4, "num_stages": 3}
    rows = 128 if over == "pair" else 64
    units = 32 if over == "pair" else 64
    return {"BL": rows, "BJ": units, "BR": columns, "num_warps": 4, "num_stages": 1}


def codes_tile(n_columns: int) -> dict[str, int]:
    """Choose the tile of one program over codes and its warps."""
    columns = min(MOST_COLUMNS, max(8, triton.next_power_of_2(n_columns)))
    # 64 columns, two digits each: four warps would spill
    warps, stages = (8, 3) if columns > 32 else (4, 4)
    return {"BM": 128, "BK": 128, "BR": columns, "num_warps": warps, "num_stages": stages}


def contract(
    data: torch.Tensor, factor: torch.Tensor, over: str, form: str, scale: float
) -> torch.Tensor:
    """Sum X times factor over pairs or rows; arguments as ``ntf_sweep``.

    Notes
    -----
    Each output is summed by one program, or by several whose parts are added in a fixed order.
    """
    if data.dtype == torch.int8:
        return _contract_codes(data if over == "pair" else data.T, factor, scale)
    if form == "stored" and over == "row" and data.dtype == torch.float32:
        # nothing to decode, and cuBLAS reads the turned matrix as fast
        return (data.T @ factor).mul_(scale)
    n_rows, width = data.shape
    n_columns = factor.shape[1]
    meta = tile(n_columns, form, over)
    highest = torch.get_float32_matmul_precision() == "highest"
    meta["PRECISION"] = "tf32x3" if highest else "tf32"
    wide = triton.cdiv(n_columns, meta["BR"])
    factor = factor.contiguous()
    n_out = n_rows
    if form == "stored":
        data = data if _rows_readable(data) else data.contiguous()
        n_out = n_rows if over == "pair" else width
        own, other = ("BL", "BP") if over == "pair" else ("BP", "BL")
        blocks = triton.cdiv(n_out, meta[own])
        depth = triton.cdiv(width if over == "pair" else n_rows, meta[other])
        split = _splits(blocks * wide, depth)
        out = torch.empty(split, n_out, n_columns, device=data.device)
        kernel = kernels.stored_over_pairs if over == "pair" else kernels.stored_over_rows
        meta["SHORT"] = data.dtype != torch.float32
        factor = planes(factor) if meta["SHORT"] else factor
        kernel[(blocks, split, wide)](
            data, factor, out, n_rows, width, data.stride(0), R=n_columns, **meta
        )
    else:
        if form == "geo":
            data, form = signed_root(data), "prod"
        meta["FORM"] = form
        data = padded(data if over == "pair" else data.T)
        if over == "pair":
            blocks = triton.cdiv(n_rows, meta["BL"])
            split = _splits(blocks * wide, triton.cdiv(width, UNITS))
            out = factor.new_empty(split, n_rows, n_columns)
            kernels.made_over_pairs[(blocks, split, wide)](
                data, factor, out, n_rows, width, data.stride(0), R=n_columns, BI=UNITS, **meta
            )
        else:
            n_out = width * (width - 1) // 2
            tiles = triton.cdiv(width, UNITS), triton.cdiv(width, meta["BJ"])
            depth = triton.cdiv(n_rows, meta["BL"])
            split = _splits(tiles[0] * tiles[1] * wide // 2, depth)
            out = factor.new_empty(split, n_out, n_columns)
            kernels.made_over_rows[(tiles[0] * tiles[1], split, wide)](
                data, factor, out, n_rows, width, data.stride(0), tiles[1], R=n_columns, **meta
            )
    done = out[0] if len(out) == 1 else out.sum(0)
    return done.mul_(scale) if scale != 1.0 else done


def _contract_codes(x: torch.Tensor, factor: torch.Tensor, scale: float) -> torch.Tensor:
    """Sum codes x (output, summed), contiguous along what is summed, times a factor."""
    n_out, n = x.shape
    n_columns = factor.shape[1]
    meta = codes_tile(n_columns)
    wide, depth = triton.cdiv(n_columns, meta["BR"]), triton.cdiv(n, meta["BK"])
    factor = factor.contiguous()
    peak = torch.linalg.vector_norm(factor, torch.inf, dim=0)
    place = {"device": x.device}
    q = torch.empty(wide * meta["BR"], 2, depth * meta["BK"], dtype=torch.int8, **place)
    sums = torch.empty(depth, wide * meta["BR"], dtype=torch.int32, **place)
    code_kernels.digits[(depth, wide)](
        factor, peak, q, sums, n, q.shape[2], R=n_columns, BK=meta["BK"], BR=meta["BR"]
    )
    programs = triton.cdiv(n_out, meta["BM"]) * wide
    size = part_size(programs, depth, meta["BK"])
    out = torch.empty(triton.cdiv(depth, size), n_out, n_columns, **place)
    readable = x.stride(0) if _rows_readable(x) else n
    code_kernels.codes_over_line[(programs, len(out))](
        x, q, sums, peak, out, n_out, n, q.shape[2], x.stride(0), readable, size, scale,
        R=n_columns, **meta,
    )  # fmt: skip
    return out[0] if len(out) == 1 else out.sum(0)


def part_size(programs: int, depth: int, block: int) -> int:
    """Return how many of `depth` blocks are one part of a sum of codes."""
    parts = max(1, min(depth, 64, CODES_TARGET // programs))
    return min(triton.cdiv(depth, parts), MOST_TERMS // block)


def _rows_readable(data: torch.Tensor) -> bool:
    """Say whether rows may be read as far as the next one begins."""
    n_rows, width = data.shape
    if data.stride(1) != 1 or data.stride(0) < width:
        return False
    held = data.untyped_storage().nbytes() // data.element_size() - data.storage_offset()
    return held >= n_rows * data.stride(0)


def _splits(programs: int, depth: int) -> int:
    """Return into how many parts a sum of `depth` blocks is cut."""
    return max(1, min(depth, 64, TARGET // max(programs, 1)))


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
    n_starts, n_rows, rank = current.shape
    out = torch.empty_like(current, memory_format=torch.contiguous_format)
    columns = max(2, triton.next_power_of_2(rank))
    kernels.update_rows[(triton.cdiv(n_rows, 64), n_starts)](
        product.contiguous(), current.contiguous(), gram.contiguous(),
        gram if group is None else group, out, n_rows, gram.shape[1], rounds, floor,
        R=rank, BR=columns, BM=64, GROUPED=group is not None, HALS=rule == "hals", num_warps=4,
    )  # fmt: skip
    return out
