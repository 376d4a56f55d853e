"""One fit on several processes: what each takes on, and sums over all of them.

All processes run the same program on the same data. Inside of `together` each works on its `share`
of the items, and whatever is summed over items is summed over processes, so that all of them know
the same afterwards. Outside of it, and where there is one process only, every function here does
the plain thing: a fit reads as it does for one.

A loss is then this process's part of it: the parts of all processes add up to the loss of the whole
batch, whose gradient is the sum of theirs.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from neuropipe.errors import ConfigError

Items = TypeVar("Items", bound=Any)
Terms = Mapping[str, Tensor]


@dataclass
class _Stretch:
    """A stretch of shared work; `seed` is that of the step that is being taken."""

    seed: int = 0
    common: torch.Generator | None = None


_stretch: ContextVar[_Stretch | None] = ContextVar("stretch", default=None)


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the processes that ``torchrun`` has started, where there are several.

    Parameters
    ----------
    device : torch.device
        That fits run on; of several cards each process takes the one of its number.

    Raises
    ------
    ConfigError
        There are fewer cards than processes on this machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    cards = device.type == "cuda"
    if cards:
        number = int(os.environ["LOCAL_RANK"])
        if number >= torch.cuda.device_count():
            raise ConfigError(
                f"process {number} of this machine finds no card of its own, there are "
                f"{torch.cuda.device_count()}; start as many processes as cards"
            )
        torch.cuda.set_device(number)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cards else "gloo")
    yield
    # not after an error: the others are still waiting, and whoever started them ends them
    dist.destroy_process_group()


@contextmanager
def together(share_work: bool = True) -> Iterator[None]:
    """Share the work in this block between all processes; False leaves everything to each."""
    token = _stretch.set(_Stretch() if share_work and dist.is_initialized() else None)
    try:
        yield
    finally:
        _stretch.reset(token)


def count() -> int:
    """Return how many processes share the work here."""
    return dist.get_world_size() if _stretch.get() else 1


def number() -> int:
    """Return the place of this process among those that share the work here, from 0."""
    return dist.get_rank() if _stretch.get() else 0


def n_processes() -> int:
    """Return how many processes have joined, shared work or not."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Return whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share(items: Items) -> Items:
    """Return this process's part of a sequence, an equal one up to one item, in order.

    Raises
    ------
    ConfigError
        There are fewer items than processes.
    """
    n, parts = len(items), count()
    if n < parts:
        raise ConfigError(
            f"{n} of the items that a step goes through (examples of a batch, sequences, animals) "
            f"cannot be shared by {parts} processes; start fewer, or let a batch hold more"
        )
    return items[n * number() // parts : n * (number() + 1) // parts]


def reduce_sum(x: Tensor) -> Tensor:
    """Return the sum over all processes, the same tensor for each; gradients flow back to all."""
    return x if count() == 1 else _Sum.apply(x)


def reduce_max(value: float) -> float:
    """Return the largest of all processes' values."""
    if count() == 1:
        return value
    found = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return float(found)


def gather(x: Tensor) -> Tensor:
    """Return the rows (row, ...) of all processes, one after the other; gradients flow back."""
    return x if count() == 1 else _Rows.apply(x)


def part(mean: Tensor, n: int | Tensor = 1) -> Tensor:
    """Return this process's part of a mean over everything, given its own mean over `n` of it.

    With the default, `mean` is something that all processes know alike.
    """
    if count() == 1:
        return mean
    own = torch.as_tensor(n, dtype=torch.float64, device=mean.device)
    return mean * (own / reduce_sum(own)).to(mean.dtype)


def before(n: int) -> int:
    """Return how many rows the processes before this one have, where this one has `n`."""
    return 0 if count() == 1 else sum(_numbers(n)[: number()])


def seed_step(seed: int) -> None:
    """Seed torch's generator, each process's own; `draw` draws what one process would."""
    torch.manual_seed((seed + number()) % 2**64)
    stretch = _stretch.get()
    if stretch is not None:
        stretch.seed, stretch.common = seed, None


def draw(n: int, drawing: Callable[[int, torch.Generator | None], Tensor]) -> Tensor:
    """Return `n` random rows, those that one process would have drawn for this one's examples.

    Parameters
    ----------
    n : int
        Rows of this process.
    drawing : callable
        Of a number of rows and torch's ``generator``; on the device of the fit.
    """
    if count() == 1:
        return drawing(n, None)
    sizes = _numbers(n)
    rows = draw_alike(lambda common: drawing(sum(sizes), common))
    return rows[sum(sizes[: number()]) :][:n]


def draw_alike(drawing: Callable[[torch.Generator | None], Tensor]) -> Tensor:
    """Return random numbers that are the same for all processes; see `draw`."""
    stretch = _stretch.get()
    if stretch is None:
        return drawing(None)
    if stretch.common is None:
        device = f"cuda:{torch.cuda.current_device()}" if _cards() else "cpu"
        stretch.common = torch.Generator(device).manual_seed(stretch.seed)
    return drawing(stretch.common)


def normal_like(x: Tensor) -> Tensor:
    """Return standard normal numbers for x (row, ...), those that one process would have drawn."""
    if count() == 1:
        return torch.randn_like(x)
    # numbers are drawn in the order of the memory, which need not be that of the dimensions
    stride = x.stride()
    order = sorted(range(x.ndim), key=lambda dim: -stride[dim])

    def drawing(n: int, common: torch.Generator | None) -> Tensor:
        shape = [n if dim == 0 else x.shape[dim] for dim in order]
        empty = torch.empty(shape, dtype=x.dtype, device=x.device)
        back = [order.index(dim) for dim in range(x.ndim)]
        return empty.permute(back).normal_(generator=common)

    return draw(len(x), drawing)


def anyone(flag: bool) -> bool:
    """Return whether the flag is set in any process at all, shared work or not."""
    if not dist.is_initialized():
        return flag
    found = torch.tensor(int(flag))
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def first(value: float) -> float:
    """Return the first process's value, so that all decide alike, shared work or not."""
    if not dist.is_initialized():
        return value
    found = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(found, 0)
    return float(found)


def parallel(module: nn.Module, loss: Callable[[Any], Terms]) -> Callable[[Any], Terms]:
    """Return a loss whose backward pass averages the gradients of a module over processes.

    Parameters
    ----------
    module : nn.Module
        Its weights become those of the first process.
    loss : callable
        Of a batch: this process's parts of named terms, ``loss`` among them.
    """
    if count() == 1:
        return loss
    # which weights a batch reaches is up to the loss: sessions, subjects and stages have their own
    kind: Any = nn.parallel.DistributedDataParallel
    known = inspect.signature(kind).parameters
    # buffers are the same everywhere already; torch has renamed the setting
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return kind(_Step(module, loss), find_unused_parameters=True, **{buffers: False})


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of (row, channel, sample) by the rows of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel."""
        if count() == 1 or not self.training:
            return super().forward(x)
        n = reduce_sum(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = reduce_sum(x.float().sum((0, 2))) / n
        apart = x.float() - mean[:, None]
        variance = reduce_sum(apart.square().sum((0, 2))) / n
        with torch.no_grad():
            share_of_new = self.momentum if self.momentum is not None else 0.1
            for kept, new in (
                (self.running_mean, mean), (self.running_var, variance * n / (n - 1)),
            ):  # fmt: skip
                if kept is not None:
                    kept.lerp_(new.to(kept), share_of_new)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scaled = apart * (variance + self.eps).rsqrt()[:, None]
        return (scaled * self.weight[:, None] + self.bias[:, None]).to(x.dtype)


class _Step(nn.Module):
    """A loss as a module, as DistributedDataParallel wants it."""

    def __init__(self, module: nn.Module, loss: Callable[[Any], Terms]) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Any) -> dict[str, Tensor]:
        terms = self.loss(batch)
        return {name: x if name == "loss" else x.detach() for name, x in terms.items()}


class _Sum(torch.autograd.Function):
    """A sum over processes, whose gradient is the sum of all their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        out = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out)
        return out


class _Rows(torch.autograd.Function):
    """The rows of all processes, end to end."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        sizes = _numbers(len(x))
        ctx.first, ctx.n = sum(sizes[: dist.get_rank()]), len(x)
        own = x.new_zeros(max(sizes), *x.shape[1:])
        own[: len(x)] = x.detach()
        found = [torch.empty_like(own) for _ in sizes]
        dist.all_gather(found, own)
        return torch.cat([rows[:n] for rows, n in zip(found, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        out = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out)
        return out[ctx.first : ctx.first + ctx.n]


def _numbers(n: int) -> list[int]:
    """Return every process's `n`."""
    found = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(found, torch.tensor([n]))
    return [int(x) for x in found]


def _cards() -> bool:
    return "nccl" in dist.get_backend_config()
