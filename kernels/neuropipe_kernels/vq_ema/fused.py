"""Launch the Triton search of codes, the sums by code and the update of the codebook."""

from __future__ import annotations

import os

import torch
import triton

from neuropipe_kernels.vq_ema import tile_kernels as kernels

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
MOST_CODES = 8192
MOST_DIMENSIONS = 128
# Up to here tokens are not screened, and summed as whole numbers.
FEW = 2**13
# Programs that fill the device.
TARGET = 1024
FEW_TARGET = 512  # of those that search a part of the codes each
SCREEN_TILE = {"BM": 64, "BK": 64, "num_warps": 4, "num_stages": 3}
EXACT_TILE = {"BM": 16, "BK": 64, "num_warps": 2, "num_stages": 3}


def serves(x: torch.Tensor, code: torch.Tensor) -> bool:
    """Say whether the kernels cover a call: float32, not too many codes or dimensions."""
    small = code.shape[0] <= MOST_CODES and code.shape[1] <= MOST_DIMENSIONS
    return small and x.dtype == torch.float32


def width(dim: int) -> int:
    """Return the dimensions of a tile."""
    return max(16, triton.next_power_of_2(dim))


def margin(n_codes: int) -> tuple[float, int]:
    """Return how far two packed scores may be apart and yet in the wrong order, and the mask.

    Rounding a token and a code of length 1 to bfloat16 moves their product by at most 2^-8; the
    lowest bits, which hold the code, by as much as they are worth below 1. Two scores move apart
    by twice that; the last factor is for the float32 sum.
    """
    bits = max(1, (n_codes - 1).bit_length())
    return 2 * (2.0**-8 + 2.0 ** (bits - 23)) * 1.02, (1 << bits) - 1


def nearest(x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Return the code of each token, (token,) int64; nothing is read back from the device."""
    x, code = x.contiguous(), code.contiguous()
    n, (n_codes, dim) = len(x), code.shape
    index = torch.empty(n, dtype=torch.int64, device=x.device)
    own = {"D": dim, "BD": width(dim)}
    if n <= FEW:
        rows = triton.cdiv(n, EXACT_TILE["BM"])
        split = max(1, min(triton.cdiv(n_codes, EXACT_TILE["BK"]), FEW_TARGET // max(rows, 1)))
        found, score = index.new_empty(split, n), x.new_empty(split, n, dtype=torch.float64)
        kernels.exact_kernel[(rows, split)](
            x, code, found, index, index, score, n, n_codes, LISTED=False, **own, **EXACT_TILE
        )
        kernels.best_kernel[(triton.cdiv(n, 128),)](
            found, score, index, n, S=split, BM=128, num_warps=4
        )
        return index
    left = torch.empty(n, dtype=torch.int32, device=x.device)
    n_left = torch.zeros(1, dtype=torch.int32, device=x.device)
    short = code.bfloat16()
    gap, low = margin(n_codes)
    kernels.screen_kernel[(triton.cdiv(n, SCREEN_TILE["BM"]),)](
        x, code, short.float() if INTERPRETED else short, index, left, n_left, n, n_codes, gap,
        LOW=low, EMULATE=INTERPRETED, **own, **SCREEN_TILE,
    )  # fmt: skip
    blocks = min(TARGET, triton.cdiv(n, EXACT_TILE["BM"]))
    kernels.exact_kernel[(blocks, 1)](
        x, code, index, left, n_left, index, n, n_codes, LISTED=True, **own, **EXACT_TILE
    )
    return index


def gather(
    x: torch.Tensor, index: torch.Tensor, n_codes: int, deterministic: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return count (code,) and total (code, dim) of the tokens' unit vectors."""
    x = x.contiguous()
    n, dim = x.shape
    own = {"D": dim, "BD": width(dim)}
    if not deterministic:
        count, total = x.new_zeros(n_codes), x.new_zeros(n_codes, dim)
        kernels.scatter_kernel[(triton.cdiv(n, 64),)](
            x, index, count, total, n, BM=64, num_warps=4, **own
        )
        return count, total
    if n <= FEW:
        sums = torch.zeros(n_codes * (dim + 1), dtype=torch.int64, device=x.device)
        kernels.tally_kernel[(triton.cdiv(n, 16),)](
            x, index, sums[n_codes * dim :], sums, n, BM=16, num_warps=4, **own
        )
        count, total = x.new_empty(n_codes), x.new_empty(n_codes, dim)
        kernels.read_kernel[(triton.cdiv(n_codes, 16),)](
            sums, total, count, n_codes, BK=16, num_warps=4, **own
        )
        return count, total
    # short keys are sorted in fewer passes
    ordered, order = index.to(torch.int16).sort(stable=True)
    bounds = torch.arange(n_codes + 1, dtype=torch.int16, device=x.device)
    edge = torch.searchsorted(ordered, bounds)
    split = max(1, min(16, 4 * TARGET // n_codes))
    count, total = x.new_empty(split, n_codes), x.new_empty(split, n_codes, dim)
    kernels.segment_kernel[(n_codes, split)](
        x, order, edge, count, total, n, n_codes, BM=32, num_warps=4, **own
    )
    return (count[0], total[0]) if split == 1 else (count.sum(0), total.sum(0))


def update(
    code: torch.Tensor,
    size: torch.Tensor,
    count: torch.Tensor,
    total: torch.Tensor,
    decay: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move codes towards their tokens; arguments as ``vq_update``."""
    n_codes, dim = code.shape
    code, total = code.contiguous(), total.contiguous()
    new, grown = torch.empty_like(code), torch.empty_like(size)
    kernels.update_kernel[(triton.cdiv(n_codes, 16),)](
        code, size.contiguous(), count.contiguous(), total, new, grown, n_codes, decay,
        D=dim, BK=16, BD=width(dim), num_warps=4,
    )  # fmt: skip
    return new, grown
