"""A forward and backward pass that is recorded on a card, and replayed for every like batch.

Where kernels are short a step costs what it takes to launch them: a CUDA graph launches them all
at once. Numbers stay what they are: the same kernels run in the same order, and random numbers come
from torch's generator as it is seeded before the step.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

WARM = 3  # passes of a kind before it is recorded: libraries choose their kernels and buffers
KINDS = 16  # recordings, each with gradients of its own

Batch = Mapping[str, Tensor]
Kind = tuple[tuple[Any, ...], ...]
Pass = Callable[[Batch], Mapping[str, Tensor]]


class Recorded:
    """A pass, recorded for each kind of batch that comes again; other batches run as they are.

    Batches are of one kind if their tensors have the same shapes.

    Parameters
    ----------
    weights : sequence of nn.Parameter
        That the pass leaves gradients in; none has one before a pass.
    run : callable
        Of a batch: computes named scalars and their gradients, without reading anything back from
        the device, and returns the scalars.
    """

    def __init__(self, weights: Sequence[nn.Parameter], run: Pass) -> None:
        self.weights, self.run = weights, run
        self.seen: Counter[Kind] = Counter()
        self.replays: dict[Kind, _Replay] = {}
        self.refused = False

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return the named scalars of a batch; weights then have their gradients."""
        kind = tuple((name, x.shape, x.dtype, x.device) for name, x in batch.items())
        if kind not in self.replays:
            self.seen[kind] += 1
            full = len(self.replays) == KINDS
            if self.refused or full or self.seen[kind] <= WARM or not self._record(kind, batch):
                return self.run(batch)
        return self.replays[kind](self.weights, batch)

    def _record(self, kind: Kind, batch: Batch) -> bool:
        """Record the pass, of which nothing runs meanwhile; returns whether that was possible."""
        given = {name: x.clone() for name, x in batch.items()}
        # recordings run one after the other, so that they may share what they only pass through
        pool = next((r.graph.pool() for r in self.replays.values()), None)
        # what is recorded is the work of the current card, on the stream that is given
        with torch.cuda.device(self.weights[0].device):
            graph, random = torch.cuda.CUDAGraph(), torch.cuda.get_rng_state()
            try:
                stream = _stream(torch.cuda.current_device())
                with torch.cuda.graph(graph, pool=pool, stream=stream):
                    terms = self.run(given)
            except RuntimeError as error:
                self.refused = True
                log.warning("steps are not recorded, which costs time alone: %s", first_line(error))
                for weight in self.weights:
                    weight.grad = None
                _recover(random)
                return False
        terms = {name: x.detach() for name, x in terms.items()}
        self.replays[kind] = _Replay(graph, given, terms, [w.grad for w in self.weights])
        return True


class _Replay(NamedTuple):
    """A recording, what it reads and what it writes."""

    graph: torch.cuda.CUDAGraph
    given: Mapping[str, Tensor]
    terms: Mapping[str, Tensor]
    gradients: Sequence[Tensor | None]

    def __call__(self, weights: Sequence[nn.Parameter], batch: Batch) -> Mapping[str, Tensor]:
        for name, x in batch.items():
            self.given[name].copy_(x)
        self.graph.replay()
        for weight, gradient in zip(weights, self.gradients, strict=True):
            weight.grad = gradient
        return {name: x.clone() for name, x in self.terms.items()}  # a replay writes over them


@cache
def _stream(card: int) -> torch.cuda.Stream:
    """Return the card's stream for recordings: one for all, for libraries keep buffers for each."""
    return torch.cuda.Stream(card)


def _recover(random: Tensor) -> None:
    """Give torch's generator a new state, for that of a broken recording is of no more use."""
    device = torch.cuda.current_device()
    fresh = torch.Generator(f"cuda:{device}")
    torch.cuda.default_generators[device].graphsafe_set_state(fresh.graphsafe_get_state())
    torch.cuda.set_rng_state(random)


def first_line(error: Exception) -> str:
    """Return what an error says first."""
    return (str(error).splitlines() or [type(error).__name__])[0]
