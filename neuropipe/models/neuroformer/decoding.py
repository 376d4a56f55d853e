"""Drawing windows from the network, token by token, with keys and values kept."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from neuropipe.models.neuroformer.attention import Block, Rows
from neuropipe.models.neuroformer.embedding import START
from neuropipe.models.neuroformer.model import Batch, Network

ROOM = 16  # buffers have room for a multiple of so many keys


class Drawn(NamedTuple):
    """Spikes of drawn windows.

    Attributes
    ----------
    bin, unit : (window, spike) int64
        In the order in which they were drawn; units by their place in the session.
    number : (window,) int64
        Spikes of each window; what lies behind is nothing.
    cut : (window,) bool
        Windows that had not ended when there was no more room.
    """

    bin: Tensor
    unit: Tensor
    number: Tensor
    cut: Tensor


class Layer:
    """A block with the keys and values that its next query looks at.

    Parameters
    ----------
    block : Block
    mask : (window, 1, 1, position), optional
        Added to scores: 0 for keys that there are, else -inf; none for a block that looks at the
        current spikes so far.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self.key = self.value = torch.zeros(0)
        self.mask: Tensor | None = None

    def make_room(self, n_windows: int, n_keys: int, device: torch.device) -> bool:
        """Make buffers for so many keys at least; returns whether there were none so large."""
        if len(self.key) == n_windows and self.key.shape[2] >= n_keys:
            return False
        attention = self.block.attention
        room = -(-n_keys // ROOM) * ROOM
        shape = (n_windows, attention.n_heads, room, attention.out.in_features // attention.n_heads)
        self.key, self.value = (torch.zeros(shape, device=device) for _ in range(2))
        return True

    def fill(self, tokens: Tensor, rows: Rows) -> bool:
        """Take the keys of a stream; returns whether buffers are new."""
        key, value = self.block.attention.keys(self.block.source(tokens), rows)
        n_windows, n_keys = rows.mask.shape
        fresh = self.make_room(n_windows, n_keys, tokens.device)
        if fresh:
            room = self.key.shape[2]
            # of numbers, since a bool one is turned to numbers in every layer and step
            self.mask = torch.zeros(n_windows, 1, 1, room, device=tokens.device)
        self.key[:, :, :n_keys], self.value[:, :, :n_keys] = key, value
        self.mask.fill_(-torch.inf)  # type: ignore[union-attr]
        self.mask[:, 0, 0, :n_keys].masked_fill_(rows.mask, 0.0)  # type: ignore[index]
        return fresh


def _layers(blocks: nn.ModuleList) -> list[Layer]:
    return [Layer(cast(Block, block)) for block in blocks]


class Cache:
    """Keys and values of windows that are being drawn.

    Those of past, stimulus and covariates are made once a window; those of the current spikes
    grow by one a step. All windows of a batch are at the same step.

    Parameters
    ----------
    network : Network
        In evaluation mode.
    n_steps : int
        Tokens a window has room for.
    """

    def __init__(self, network: Network, n_steps: int) -> None:
        self.network = network
        self.encode = _layers(network.encode)
        self.mix = _layers(network.mix)
        self.to_past = _layers(network.to_past)
        self.to_stimulus = self.to_covariates = []
        if network.sizes.frame is not None:
            self.to_stimulus = _layers(network.to_stimulus)
        if network.sizes.n_covariates:
            self.to_covariates = _layers(network.to_covariates)
        device = next(network.parameters()).device
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.place = torch.arange(-(-n_steps // ROOM) * ROOM, device=device)

    def open(self, batch: Batch) -> bool:
        """Begin new windows, by their streams; returns whether any buffer is new.

        Parameters
        ----------
        batch : mapping
            As of `Network.streams`; its current tokens are not looked at.
        """
        streams = self.network.streams(batch)
        n_windows, device = len(streams.past[1].mask), self.step.device
        self.step.zero_()
        fresh = [
            layer.make_room(n_windows, len(self.place), device) for layer in self.encode + self.mix
        ]
        fresh += [layer.fill(*streams.past) for layer in self.to_past]
        for layers, stream in (
            (self.to_stimulus, streams.stimulus),
            (self.to_covariates, streams.covariates),
        ):
            if stream is not None:
                fresh += [layer.fill(*stream) for layer in layers]
        return any(fresh)

    def advance(self, unit: Tensor, bin: Tensor) -> Tensor:
        """Add one token to every window and return its state, (window, width).

        Parameters
        ----------
        unit : (window,)
            Row of the unit table.
        bin : (window,)
        """
        x = self.network.spikes.current(unit, bin, self.step.expand(len(unit)))
        so_far = torch.where(self.place <= self.step, 0.0, -torch.inf)[None, None, None]
        fused = (*self.to_past, *self.to_stimulus, *self.to_covariates)
        for layer in (*self.encode, *fused, *self.mix):
            block, attention = layer.block, layer.block.attention
            normal = block.before(x)
            if layer.mask is None:
                own = attention.source(block.own(x, normal)).chunk(2, -1)
                for kept, new in zip((layer.key, layer.value), own, strict=True):
                    heads = new.unflatten(-1, (attention.n_heads, 1, -1))
                    kept.index_copy_(2, self.step[None], heads)
            q = attention.query(normal).unflatten(-1, (attention.n_heads, 1, -1))
            mask = so_far if layer.mask is None else layer.mask
            x = block.finish(x, attention.attend(q, layer.key, layer.value, mask)[:, 0])
        self.step += 1
        return self.network.norm(x)


class Sampler:
    """One step of drawing: a token in, the next one out.

    Parameters
    ----------
    network : Network
        In evaluation mode.
    n_steps : int
        Tokens a window has room for.
    temperature, top_p : float

    Notes
    -----
    On a CUDA device a step is recorded as a graph once and then replayed, as long as the number
    of windows and the room of the buffers stay.
    """

    def __init__(
        self, network: Network, n_steps: int, *, temperature: float = 1.0, top_p: float = 1.0
    ) -> None:
        self.network, self.n_steps = network, n_steps
        self.cache = Cache(network, n_steps)
        self.temperature, self.top_p = temperature, top_p
        self.given: dict[str, Tensor] = {}
        self.taken: tuple[Tensor, Tensor] | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def open(self, batch: Batch) -> None:
        """Begin new windows; see `Cache.open`, and ``units`` and ``window_size`` (window,)."""
        fresh = self.cache.open(batch)
        n_windows, device = len(batch["window_size"]), batch["window_size"].device
        if fresh or len(self.given.get("units", ())) != len(batch["units"]):
            self.graph = None
            self.given = {
                "units": batch["units"].clone(),
                "size": batch["window_size"].clone(),
                "bin": torch.zeros(n_windows, dtype=torch.int64, device=device),
                "unit": torch.zeros(n_windows, dtype=torch.int64, device=device),
                "uniform": torch.zeros(n_windows, 2, device=device, dtype=torch.float64),
            }
        self.given["units"].copy_(batch["units"])
        self.given["size"].copy_(batch["window_size"])

    def __call__(self, bin: Tensor, unit: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Return bin and unit of the next spike; the bin of an end is that of the window's end.

        Parameters
        ----------
        bin, unit : (window,)
            Of the last spike, the unit by its place in the session; -1 opens the window.
        uniform : (window, 2)
            Random numbers from 0 up to 1.
        """
        for name, value in (("bin", bin), ("unit", unit), ("uniform", uniform)):
            self.given[name].copy_(value)
        if bin.device.type != "cuda":
            return self._step()
        if self.graph is None:
            self._record()
        self.graph.replay()  # type: ignore[union-attr]
        return self.taken  # type: ignore[return-value]

    def _record(self) -> None:
        """Record a step; what trying it out wrote is overwritten before it is looked at."""
        at = self.cache.step.clone()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                self.cache.step.copy_(at)
                self._step()
        torch.cuda.current_stream().wait_stream(aside)
        self.cache.step.copy_(at)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.taken = self._step()
        self.cache.step.copy_(at)

    def _step(self) -> tuple[Tensor, Tensor]:
        heads, w = self.network.heads, self.network.sizes.window_bins
        units, size, bin, unit, uniform = (
            self.given[n] for n in ("units", "size", "bin", "unit", "uniform")
        )
        row = torch.where(unit < 0, START, units[0] + 1 + unit)
        state = self.cache.advance(row, bin)
        last = unit.clamp(min=0)
        log_time = heads.log_time(state, bin)
        if heads.chained:
            when = choose(log_time, uniform[:, 0], self.temperature, self.top_p)
            log_unit = heads.log_unit(state, when.clamp(max=w - 1), units, bin, last)
            drawn = choose(log_unit, uniform[:, 1], self.temperature, self.top_p)
        else:
            log_unit = heads.log_unit(state, bin, units, bin, last)
            drawn = choose(log_unit, uniform[:, 1], self.temperature, self.top_p)
            when = choose(log_time[:, :w], uniform[:, 0], self.temperature, self.top_p)
            when = torch.where(drawn == len(units), w, when)
        # what falls behind the end of a window that is cut short was never seen
        ends = when >= size
        return torch.where(ends, w, when), torch.where(ends, 0, drawn)


def choose(log_p: Tensor, uniform: Tensor, temperature: float, top_p: float) -> Tensor:
    """Draw from each row of log-probabilities (row, value) by its cumulated chances.

    Parameters
    ----------
    log_p : (row, value)
    uniform : (row,)
        From 0 up to 1.
    temperature : float
        Divides the logits.
    top_p : float
        Only the likeliest values are drawn, as many as it takes for this share; at least one.
    """
    p = (log_p.double() / temperature).softmax(-1)
    if top_p < 1:
        ordered, where = p.sort(-1, descending=True)
        kept = ordered.cumsum(-1) - ordered < top_p
        p = torch.zeros_like(p).scatter(-1, where, ordered * kept)
    total = p.cumsum(-1)
    found = torch.searchsorted(total, (uniform.double() * total[:, -1])[:, None], right=True)[:, 0]
    # the last value that has a chance, where rounding leads beyond it
    last = p.shape[-1] - 1 - (p.flip(-1) > 0).to(torch.int8).argmax(-1)
    return torch.minimum(found, last)


@torch.no_grad()
def draw(sampler: Sampler, batch: Batch, uniform: Tensor) -> Drawn:
    """Draw the spikes of every window of a batch.

    Parameters
    ----------
    sampler : Sampler
    batch : mapping
        As of `Sampler.open`.
    uniform : (step, window, 2)
        Random numbers from 0 up to 1, for as many steps as a window has room for spikes.
    """
    sampler.open(batch)
    w = sampler.network.sizes.window_bins
    bin = torch.zeros(uniform.shape[1], dtype=torch.int64, device=uniform.device)
    unit = torch.full_like(bin, -1)
    going = torch.ones_like(bin, dtype=torch.bool)
    bins, units = [], []
    for step in range(len(uniform)):
        when, who = sampler(bin, unit, uniform[step])
        going = going & (when < w)
        bins.append(torch.where(going, when, w))
        units.append(torch.where(going, who, 0))
        bin, unit = bins[-1].clamp(max=w - 1), units[-1]
        if not bool(going.any()):
            break
    spikes = torch.stack(bins, 1)
    return Drawn(spikes, torch.stack(units, 1), (spikes < w).sum(1), going)
