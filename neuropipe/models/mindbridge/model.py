"""MindBridge's network: tensors in, tensors out.

Legend: x a subject's pattern (sample, voxel or bin); u its common code; h its hidden code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from neuropipe.models.mindbridge.aggregate import pool


@dataclass(frozen=True)
class Form:
    """Sizes of the network.

    Attributes
    ----------
    aggregation : {"linear", "max", "average", "resize"}
        ``linear``: a map of each subject's own to the common code; else pooling.
    common : int
        Bins of a pooled pattern (8192 in the paper), or entries of the common code.
    hidden, adapter, n_blocks : int
        2048, 128 and 4 in the paper.
    embedder_dropout, block_dropout : float
        0.5 and 0.15 in the paper.
    image, text : int
        Features to predict; 0 for no text.
    head_rank : int, optional
        None: full heads, as in the paper.
    builds : bool
        Whether patterns can be built back from hidden codes.
    shared : bool
        One embedder and builder for all subjects (naive).
    """

    aggregation: str
    common: int
    hidden: int
    adapter: int
    n_blocks: int
    embedder_dropout: float
    block_dropout: float
    image: int
    text: int
    head_rank: int | None
    builds: bool
    shared: bool


class Adapter(nn.Module):
    """x + up(relu(down(x))); the way up starts at zero."""

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(size, inner), nn.Linear(inner, size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        return x + self.up(torch.relu(self.down(x)))


def _embedder(form: Form) -> nn.Sequential:
    return nn.Sequential(
        Adapter(form.common, form.adapter), nn.Linear(form.common, form.hidden),
        nn.LayerNorm(form.hidden), nn.GELU(), nn.Dropout(form.embedder_dropout),
    )  # fmt: skip


def _builder(form: Form) -> nn.Sequential:
    # the adapter comes last, so that outputs can be negative
    return nn.Sequential(
        nn.Linear(form.hidden, form.common), nn.LayerNorm(form.common), nn.GELU(),
        Adapter(form.common, form.adapter),
    )  # fmt: skip


class Translator(nn.Module):
    """Blocks of linear map, norm, GELU and dropout, each added to what it was given."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        size = form.hidden
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(size, size), nn.LayerNorm(size), nn.GELU(), nn.Dropout(form.block_dropout)
            )
            for _ in range(form.n_blocks)
        )

    def forward(self, h: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        for block in self.blocks:
            h = h + block(h)
        return h


def _head(size: int, n_features: int, rank: int | None) -> nn.Module:
    if rank is None:
        return nn.Linear(size, n_features)
    return nn.Sequential(nn.Linear(size, rank, bias=False), nn.Linear(rank, n_features))


class Subject(nn.Module):
    """One subject's own part: embedder, builder and, for a linear aggregation, its two maps."""

    def __init__(self, form: Form, n_voxels: int) -> None:
        super().__init__()
        linear = form.aggregation == "linear"
        self.embedder = _embedder(form)
        self.builder = _builder(form) if form.builds else None
        self.gather = nn.Linear(n_voxels, form.common) if linear else None
        self.spread = nn.Linear(form.common, n_voxels) if linear and form.builds else None


class Bridge(nn.Module):
    """Patterns of several subjects to one hidden code, to embeddings, and back to any subject.

    Parameters
    ----------
    form : Form
    n_voxels : sequence of int
        Of each subject; pooled aggregations do not look at them.

    Notes
    -----
    Source: Wang et al., CVPR 2024. With ``aggregation="linear"`` the code is the pair of common
    code u, which has the same meaning for all subjects, and hidden code h = E_s(u). Embeddings are
    then base(u) + head(T(h)) and built patterns spread_s(u + B_s(h)), heads and builders
    starting at zero: the network starts as the linear model that `start` fits in closed form, and
    learns what that misses.
    """

    def __init__(self, form: Form, n_voxels: Sequence[int]) -> None:
        super().__init__()
        self.form = form
        own = 1 if form.shared else len(n_voxels)
        self.subjects = nn.ModuleList(Subject(form, n) for n in n_voxels[:own])
        self.translator = Translator(form)
        self.linear = form.aggregation == "linear"
        sizes = {"image": form.image, **({"text": form.text} if form.text else {})}
        self.heads = nn.ModuleDict(
            {name: _head(form.hidden, n, form.head_rank) for name, n in sizes.items()}
        )
        self.base = nn.ModuleDict(
            {name: nn.Linear(form.common, n) for name, n in sizes.items()} if self.linear else {}
        )
        if self.linear:
            self.start_linear()

    def start_linear(self) -> None:
        """Silence all that is not linear, so that training starts at the closed forms."""
        for head in self.heads.values():
            last = cast(nn.Linear, [*head.modules()][-1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        for s in range(len(self.subjects)):
            builder = self.subject(s).builder
            if builder is not None:
                # GELU then passes zeros
                nn.init.zeros_(cast(nn.LayerNorm, builder[1]).weight)

    def subject(self, s: int) -> Subject:
        """Return the own part of a subject."""
        return cast(Subject, self.subjects[0 if self.form.shared else s])

    def gathered(self, x: Tensor, s: int) -> Tensor:
        """Return what a subject's embedder sees of its patterns (sample, voxel), pooled or not."""
        own = self.subject(s)
        if own.gather is not None:
            return own.gather(x)
        return x if x.shape[-1] == self.form.common else pool(
            x, self.form.common, self.form.aggregation
        )  # fmt: skip

    def encode(self, x: Tensor, s: int) -> Tensor:
        """Return the code that all subjects share, (sample, hidden or common + hidden)."""
        u = self.gathered(x, s)
        h = self.subject(s).embedder(u)
        return torch.cat([u, h], 1) if self.linear else h

    def build(self, code: Tensor, s: int) -> Tensor:
        """Return the pattern of a subject that belongs to a code: its voxels, or its bins."""
        own = self.subject(s)
        if own.builder is None:
            raise ValueError("this network was made without builders (mode single)")
        if own.spread is None:
            return own.builder(code)
        u, h = code[:, : self.form.common], code[:, self.form.common :]
        return own.spread(u + own.builder(h))

    def predict(self, code: Tensor) -> dict[str, Tensor]:
        """Return embeddings (sample, feature) of any length, ``image`` and perhaps ``text``."""
        h = self.translator(code[:, self.form.common :] if self.linear else code)
        out = {name: head(h) for name, head in self.heads.items()}
        if self.linear:
            u = code[:, : self.form.common]
            out = {name: value + self.base[name](u) for name, value in out.items()}
        return out


def n_parameters(module: nn.Module) -> int:
    """Return how many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())
