"""In which precision a pass multiplies; what torch is told holds inside a block alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def tf32_products(wanted: bool) -> Iterator[None]:
    """Let float32 products and convolutions inside the block take tf32, or keep them from it."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if wanted:
        torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = wanted  # torch's own default lets convolutions take it
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def bfloat16_products(wanted: bool, device_type: str) -> Iterator[None]:
    """Let products inside the block take bfloat16, where that is wanted."""
    # not cuDNN's attention: left to choose, a step whose shapes vary took seven times float32's
    ways = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with torch.autocast(device_type, torch.bfloat16, enabled=wanted):
        if wanted:
            with sdpa_kernel(ways):
                yield
        else:
            yield
