"""Attention over rows of unequal length: tokens lie packed, and only attention sees padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = 32  # of blocks and rows, at most, that torch compiles code for


@dataclass(frozen=True)
class Rows:
    """Where the packed tokens of each row lie.

    Attributes
    ----------
    mask : (row, position) bool
        Where there is a token.
    flat : (token,) int64 or None
        Position of each packed token in the flattened (row, position); None where every position
        has its token, whether the mask shows it or not.
    full : bool
        Whether the mask shows every position.
    """

    mask: Tensor
    flat: Tensor | None
    full: bool = False

    def padded(self, x: Tensor) -> Tensor:
        """Return packed tokens (token, ...) as (row, position, ...), zeros where there is none."""
        rows, length = self.mask.shape
        if self.flat is None:
            return x.unflatten(0, (rows, length))
        # a copy to distinct places: its gradient is a plain selection
        out = x.new_zeros(rows * length, *x.shape[1:]).index_copy(0, self.flat, x)
        return out.unflatten(0, (rows, length))

    def packed(self, x: Tensor) -> Tensor:
        """Return padded tokens (row, position, ...) as (token, ...)."""
        x = x.flatten(0, 1)
        return x if self.flat is None else x.index_select(0, self.flat)

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over the tokens of each row, (row, ...)."""
        weight = self.mask.to(x.dtype)
        weight = weight / weight.sum(1, keepdim=True)
        return torch.einsum("rp,rpe->re", weight, self.padded(x))


class Attention(nn.Module):
    """Multi-head attention, softmax(q k' / sqrt(d)) v, from packed tokens to packed tokens.

    Parameters
    ----------
    width, n_heads : int
    dropout : float
        Of the weights, in training.
    """

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.query = nn.Linear(width, width)
        self.source = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def queries(self, x: Tensor, rows: Rows) -> Tensor:
        """Return (row, head, position, feature)."""
        return self._heads(rows.padded(self.query(x)))

    def keys(self, source: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return keys and values (row, head, position, feature)."""
        key, value = rows.padded(self.source(source)).chunk(2, -1)
        return self._heads(key), self._heads(value)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        """Return what the heads see of the keys that a mask shows, (row, position, width)."""
        seen = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal,
            dropout_p=self.dropout if self.training else 0.0,
        )  # fmt: skip
        return self.out(seen.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, rows: Rows, source: Tensor, source_rows: Rows) -> Tensor:
        """Return the attention of each token, (row, position, source position), mean of heads."""
        q = self.queries(x, rows)
        k, _ = self.keys(source, source_rows)
        score = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        score = score.masked_fill(~source_rows.mask[:, None, None], -torch.inf)
        return score.softmax(-1).mean(1)

    def forward(self, x: Tensor, rows: Rows, source: Tensor, source_rows: Rows | None) -> Tensor:
        """Let tokens x (token, width) attend to a source; causally where it has no rows."""
        q = self.queries(x, rows)
        if source_rows is None:
            # padding comes last, so a causal query never meets it
            return rows.packed(self.attend(q, *self.keys(source, rows), None, causal=True))
        mask = None if source_rows.full else source_rows.mask[:, None, None]
        return rows.packed(self.attend(q, *self.keys(source, source_rows), mask))


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x), with four times the width and GELU.

    Parameters
    ----------
    width, n_heads, dropout
        As of `Attention`.
    cross : bool
        Whether it attends to another stream.
    published : bool
        As in the authors' network: keys and values are not normalised, and the sum is, last.
    """

    def __init__(
        self, width: int, n_heads: int, dropout: float, *, cross: bool, published: bool
    ) -> None:
        super().__init__()
        self.cross = cross
        # on a CPU attention with dropout of its weights takes the slow path
        self.attention = Attention(width, n_heads, dropout if published else 0.0)
        self.before = nn.LayerNorm(width)
        self.source = nn.LayerNorm(width) if cross and not published else nn.Identity()
        self.published = published
        self.between = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.after = nn.LayerNorm(width) if published else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.compiled = False  # whether torch.compile fuses it in training

    def own(self, x: Tensor, normal: Tensor) -> Tensor:
        """Return what a self-attention takes its keys and values from."""
        return x if self.published else normal

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        """Add what was seen, and the MLP."""
        x = x + self.drop(seen)
        x = x + self.drop(self.mlp(self.between(x)))
        return self.after(x)

    def forward(
        self,
        x: Tensor,
        rows: Rows,
        source: Tensor | None = None,
        source_rows: Rows | None = None,
    ) -> Tensor:
        """Return x (token, width) after the block; see `whole`."""
        run = _compiled() if self.compiled and self.training else Block.whole
        return run(self, x, rows, source, source_rows)

    def whole(
        self, x: Tensor, rows: Rows, source: Tensor | None, source_rows: Rows | None
    ) -> Tensor:
        """Return x (token, width) after the block.

        Parameters
        ----------
        x : (token, width)
        rows : Rows
        source : (token, width) or None
            Of a block that attends to another stream.
        source_rows : Rows or None
            Its rows; a block without another stream attends to all of x if they are given, and
            causally if not.
        """
        normal = self.before(x)
        seen_in = self.own(x, normal) if source is None else self.source(source)
        return self.finish(x, self.attention(normal, rows, seen_in, source_rows))


@cache
def _compiled() -> Callable[..., Tensor]:
    """Return the block's pass, compiled once for all blocks of a kind and all numbers of tokens."""
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, KINDS)
    return torch.compile(Block.whole, dynamic=True)


def stack(
    n_layers: int, width: int, n_heads: int, dropout: float, *, cross: bool, published: bool
) -> nn.ModuleList:
    """Return blocks of one kind."""
    return nn.ModuleList(
        [Block(width, n_heads, dropout, cross=cross, published=published) for _ in range(n_layers)]
    )
