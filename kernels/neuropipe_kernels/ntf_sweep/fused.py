"""Launch the Triton contraction of affinities and the update of factors."""

from __future__ import annotations

import torch
import triton

from neuropipe_kernels.ntf_sweep import tile_kernels as kernels
from neuropipe_kernels.ntf_sweep.reference import signed_root

# Programs that fill the device.
TARGET = 2048
# Units i that share one loaded tile of units j.
UNITS = 4
MOST_COLUMNS = 64


def serves(data: torch.Tensor, factor: torch.Tensor) -> bool:
    """Say whether the kernels cover a call: float32 factors, data not float64."""
    return factor.dtype == torch.float32 and data.dtype != torch.float64


def tile(n_columns: int, form: str, over: str) -> dict[str, int]:
    """Choose the tile of one program and its warps."""
    columns = min(MOST_COLUMNS, max(16, triton.next_power_of_2(n_columns)))
    if form == "stored":
        return {"BL": 64, "BP": 128, "BR": columns, "num_warps": 4, "num_stages": 4}
    if over == "pair":
        return {"BL": 128, "BJ": 32, "BR": columns, "num_warps": 4, "num_stages": 2}
    return {"BL": 32, "BJ": 32, "BR": columns, "num_warps": 4, "num_stages": 3}


def contract(
    data: torch.Tensor, factor: torch.Tensor, over: str, form: str, scale: float
) -> torch.Tensor:
    """Sum X times factor over pairs or rows; arguments as ``ntf_sweep``.

    Notes
    -----
    Each output is summed by one program, or by several whose parts are added in a fixed order.
    """
    n_rows, width = data.shape
    n_columns = factor.shape[1]
    meta = tile(n_columns, form, over)
    highest = torch.get_float32_matmul_precision() == "highest"
    meta["PRECISION"] = "tf32x3" if highest else "tf32"
    wide = triton.cdiv(n_columns, meta["BR"])
    factor = factor.contiguous()
    n_out = n_rows
    if form == "stored":
        data = data.contiguous()
        n_out = n_rows if over == "pair" else width
        own, other = ("BL", "BP") if over == "pair" else ("BP", "BL")
        blocks = triton.cdiv(n_out, meta[own])
        depth = triton.cdiv(width if over == "pair" else n_rows, meta[other])
        split = _splits(blocks * wide, depth)
        out = factor.new_empty(split, n_out, n_columns)
        kernel = kernels.stored_over_pairs if over == "pair" else kernels.stored_over_rows
        kernel[(blocks, split, wide)](data, factor, out, n_rows, width, R=n_columns, **meta)
    else:
        if form == "geo":
            data, form = signed_root(data), "prod"
        meta |= {"FORM": form, "BI": UNITS}
        if over == "pair":
            blocks = triton.cdiv(n_rows, meta["BL"])
            split = _splits(blocks * wide, triton.cdiv(width, UNITS))
            out = factor.new_empty(split, n_rows, n_columns)
            kernels.made_over_pairs[(blocks, split, wide)](
                data.contiguous(), factor, out, n_rows, width, R=n_columns, **meta
            )
        else:
            n_out = width * (width - 1) // 2
            tiles = triton.cdiv(width, UNITS), triton.cdiv(width, meta["BJ"])
            depth = triton.cdiv(n_rows, meta["BL"])
            split = _splits(tiles[0] * tiles[1] * wide // 2, depth)
            out = factor.new_empty(split, n_out, n_columns)
            kernels.made_over_rows[(tiles[0] * tiles[1], split, wide)](
                data.T.contiguous(), factor, out, n_rows, width, tiles[1], R=n_columns, **meta
            )
    done = out[0] if len(out) == 1 else out.sum(0)
    return done.mul_(scale) if scale != 1.0 else done


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
