"""A forward and backward pass that is recorded on a card once, and replayed for every like batch.

Where kernels are short a step costs what it takes to launch them: a CUDA graph launches them all
at once. Numbers stay what they are: the same kernels run in the same order, and random numbers come
from torch's generator as it is seeded before the step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

WARM = 3  # passes before the recording, in which libraries choose their kernels and buffers

Batch = Mapping[str, Tensor]
Pass = Callable[[Batch], Mapping[str, Tensor]]


class Recorded:
    """A pass, recorded when the first batch's shapes come again; other shapes run as they are.

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
        self.kind: dict[str, tuple] = {}
        self.seen = 0
        self.refused = False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.given: dict[str, Tensor] = {}
        self.terms: Mapping[str, Tensor] = {}
        self.gradients: list[Tensor | None] = []

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return the named scalars of a batch; weights then have their gradients."""
        kind = {name: (x.shape, x.dtype, x.device) for name, x in batch.items()}
        self.kind = self.kind or kind
        if kind != self.kind or self.refused:
            return self.run(batch)
        if self.graph is None:
            self.seen += 1
            if self.seen <= WARM or not self._record(batch):
                return self.run(batch)
        for name, x in batch.items():
            self.given[name].copy_(x)
        self.graph.replay()  # type: ignore[union-attr]
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            weight.grad = gradient
        return {name: x.clone() for name, x in self.terms.items()}  # a replay writes over them

    def _record(self, batch: Batch) -> bool:
        """Record the pass, of which nothing runs meanwhile; returns whether that was possible."""
        self.given = {name: x.clone() for name, x in batch.items()}
        device = self.weights[0].device
        # what is recorded is the work of the current card, on the stream that is given
        with torch.cuda.device(device):
            graph, random = torch.cuda.CUDAGraph(), torch.cuda.get_rng_state()
            try:
                with torch.cuda.graph(graph, stream=_stream(torch.cuda.current_device())):
                    terms = self.run(self.given)
            except RuntimeError as error:
                self.refused = True
                log.warning("steps are not recorded, which costs time alone: %s", first_line(error))
                for weight in self.weights:
                    weight.grad = None
                _recover(random)
                return False
        self.graph = graph
        self.terms = {name: x.detach() for name, x in terms.items()}
        self.gradients = [weight.grad for weight in self.weights]
        return True


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
