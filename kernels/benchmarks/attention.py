"""Attention of the Neuroformer: FlexAttention beside torch's own with a dense mask.

python kernels/benchmarks/attention.py [--smoke]

``padded``: 160 windows of up to 100 spikes that look at up to 100 past ones (the paper's lateral
recording), a mask of the keys that there are. ``in time``: one sequence of 16,384 spikes, each of
which looks back 0.15 s, a mask of its own for every pair. Forward and backward, 8 heads of 32. Of
FlexAttention the block mask is made once and timed by itself. Errors are against float64 of a part.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import triton
from timing import device, milliseconds
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention as sdpa

HEADS, WIDTH = 8, 32


def padded(smoke: bool) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, Callable]:
    """Return queries, keys and values, the dense mask and what FlexAttention is told."""
    rows, length = (4, 128) if smoke else (160, 100)
    x = [torch.randn(rows, HEADS, length, WIDTH, device=device()) for _ in range(3)]
    number = torch.randint(length // 2, length, (rows,), device=device())
    mask = (torch.arange(length, device=device()) < number[:, None])[:, None, None]
    return tuple(x), mask, lambda b, h, q, k: k < number[b]


def in_time(smoke: bool) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, Callable]:
    """The same for one long sequence; 100 units of 30 Hz have 450 spikes in 0.15 s."""
    length, back = (512, 40) if smoke else (16384, 450)
    x = [torch.randn(1, HEADS, length, WIDTH, device=device()) for _ in range(3)]
    time = torch.rand(length, device=device()).sort().values
    first = torch.searchsorted(time, time - back / length)
    at = torch.arange(length, device=device())
    mask = (at >= first[:, None]) & (at <= at[:, None])
    return tuple(x), mask[None, None], lambda b, h, q, k: (k >= first[q]) & (k <= q)


def error(got: torch.Tensor, x: tuple[torch.Tensor, ...], mask: torch.Tensor) -> float:
    """Relative error of the first rows and queries."""
    q, k, v = (t[:2].double() for t in x)
    part = mask[:2, :, :256] if mask.shape[2] > 1 else mask[:2]
    score = (q[:, :, :256] @ k.mT / WIDTH**0.5).masked_fill(~part, -torch.inf)
    want = score.softmax(-1) @ v
    got = got[:2, :, :256].double()
    return float((got - want).norm() / want.norm())


def main() -> None:
    """Time every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, any machine")
    smoke = parser.parse_args().smoke
    name = torch.cuda.get_device_name() if device() == "cuda" else "cpu"
    print(f"# {name}, torch {torch.__version__}, triton {triton.__version__}")
    print("shape\tprecision\tway\tms\tms with backward\tpeak MiB\terr", flush=True)
    compiled = torch.compile(flex_attention, dynamic=False)
    for shape, draw in (("padded", padded), ("in time", in_time)):
        torch.manual_seed(0)
        x, mask, rule = draw(smoke)
        rows, length = x[0].shape[0], x[0].shape[2]

        def block(rule: Callable = rule, rows: int = rows, length: int = length) -> object:
            return create_block_mask(rule, rows, None, length, length, device=device())

        blocks = block()
        print(f"{shape}\t\tblock mask\t{milliseconds(block):.3f}", flush=True)
        for precision, dtype in (("tf32", torch.float32), ("bfloat16", torch.bfloat16)):
            torch.set_float32_matmul_precision("high")
            parts = [t.to(dtype).requires_grad_() for t in x]
            ways = {
                "dense mask": lambda p=parts, m=mask: sdpa(*p, attn_mask=m),
                "no mask, causal": lambda p=parts: sdpa(*p, is_causal=True),
            }
            if device() == "cuda":  # elsewhere it has no backward
                ways["FlexAttention"] = lambda p=parts, b=blocks: compiled(*p, block_mask=b)
            for way, call in ways.items():

                def both(call: Callable = call, parts: list = parts) -> None:
                    torch.autograd.grad(call().sum(), parts)

                if device() == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                    base = torch.cuda.memory_allocated()
                    both()
                    peak = (torch.cuda.max_memory_allocated() - base) / 2**20
                else:
                    peak = 0.0
                with torch.no_grad():
                    gap = error(call(), x, mask)
                    forward = milliseconds(call)
                gap_shown = "-" if way.startswith("no mask") else f"{gap:.1e}"
                print(f"{shape}\t{precision}\t{way}\t{forward:.3f}\t{milliseconds(both):.3f}\t"
                      f"{peak:.0f}\t{gap_shown}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
