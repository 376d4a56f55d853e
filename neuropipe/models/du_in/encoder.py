"""From voltages to tokens: contacts are mixed, patches filtered, and tokens look at each other.

Legend: B windows of a batch, S subjects, C contacts, H hidden channels, T samples, N tokens (one a
patch of P samples), D numbers of a token, heads and layers by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropipe.training.processes import BatchNorm

SMALL_SD = 0.02  # of published initial weights


def draw_linear(layer: nn.Linear, scale: float = 1.0) -> nn.Linear:
    """Draw a linear layer as published: truncated normal of sd 0.02, bias 0."""
    nn.init.trunc_normal_(layer.weight, std=SMALL_SD)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight.mul_(scale)
    return layer


class SubjectLinear(nn.Module):
    """A linear map of its own for each subject, (B, T, n_in) -> (B, T, n_out).

    Parameters
    ----------
    n_subjects, n_in, n_out : int
        Subjects with fewer contacts have zeros in the further ones.
    small : bool
        Draw weights with sd 0.02 as published; else so that variances are kept.
    """

    def __init__(self, n_subjects: int, n_in: int, n_out: int, *, small: bool) -> None:
        super().__init__()
        sd = SMALL_SD if small else 1 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(n_subjects, n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_subjects, n_out))
        nn.init.trunc_normal_(self.weight, std=sd, a=-2 * sd, b=2 * sd)

    def forward(self, x: Tensor, subject: Tensor) -> Tensor:
        """Map each window by its subject's weights; ``subject (B,)`` int64."""
        if self.weight.shape[0] == 1:
            return x @ self.weight[0] + self.bias[0]
        return torch.baddbmm(self.bias[subject][:, None], x, self.weight[subject])


class PatchEncoder(nn.Module):
    """Convolutions within each patch, (B, T, H) -> (B, N, D).

    Parameters
    ----------
    n_hidden : int
        H.
    patch : int
        Samples of a patch, a multiple of all strides together.
    filters, kernels, strides : sequence of int
        One number a layer.
    nonlinear : bool
        GELU after each layer. The published layers have none, so that whatever lies before the
        transformer is linear in the voltage and blind to the power of a band.

    Notes
    -----
    The paper says depth-wise convolutions, the authors' code mixes all channels; so do we.
    """

    def __init__(
        self,
        n_hidden: int,
        patch: int,
        filters: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
        *,
        nonlinear: bool,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = n_hidden
        for n_out, kernel, stride in zip(filters, kernels, strides, strict=True):
            layers.append(nn.Conv1d(n_in, n_out, kernel, stride, kernel // 2))
            layers.append(BatchNorm(n_out))
            if nonlinear:
                layers.append(nn.GELU())
            n_in = n_out
        self.layers = nn.Sequential(*layers)
        self.patch = patch
        self.dim = filters[-1] * (patch // math.prod(strides))

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens of windows that are whole patches long."""
        n, length, hidden = x.shape
        patches = x.reshape(-1, self.patch, hidden).mT
        return self.layers(patches).mT.reshape(n, length // self.patch, self.dim)


def positions(n_tokens: int, dim: int, device: torch.device) -> Tensor:
    """Return the sines and cosines (N, D) of Vaswani et al. (2017), section 3.5."""
    step = torch.arange(n_tokens, device=device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(1e4) / dim))
    out = torch.zeros(n_tokens, dim, device=device)
    out[:, 0::2] = torch.sin(step * rate)
    out[:, 1::2] = torch.cos(step * rate[: dim // 2])
    return out


class Layer(nn.Module):
    """One transformer layer, (B, N, D) -> (B, N, D).

    Parameters
    ----------
    dim, n_heads, head_dim : int
        Heads together may be wider than a token, as published.
    n_inner : int
        Width of the feed-forward part.
    dropout : float
        Of attention weights and of the inner layer.
    depth : int
        Position in the stack, from 1: linear weights are divided by sqrt(2 depth), as published.
    norm_first : bool
        Normalise before each part, or after it as published.
    norm_heads : bool
        LayerNorm of each head's queries and keys, as published.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        head_dim: int,
        n_inner: int,
        dropout: float,
        depth: int = 1,
        *,
        norm_first: bool = False,
        norm_heads: bool = True,
    ) -> None:
        super().__init__()
        scale = 1 / math.sqrt(2 * depth)
        self.n_heads, self.head_dim = n_heads, head_dim
        self.dropout, self.norm_first = dropout, norm_first
        self.into = draw_linear(nn.Linear(dim, 3 * n_heads * head_dim), scale)
        self.out = draw_linear(nn.Linear(n_heads * head_dim, dim), scale)
        self.inner = draw_linear(nn.Linear(dim, n_inner), scale)
        self.outer = draw_linear(nn.Linear(n_inner, dim), scale)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.head_norms = nn.ModuleList(
            nn.LayerNorm(head_dim) if norm_heads else nn.Identity() for _ in range(2)
        )

    def attend(self, x: Tensor) -> Tensor:
        """Let every token look at all others of its window."""
        n, length, _ = x.shape
        qkv = self.into(x).view(n, length, 3, self.n_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = self.head_norms[0](q), self.head_norms[1](k)
        share = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=share)
        return self.out(y.transpose(1, 2).reshape(n, length, -1))

    def feed(self, x: Tensor) -> Tensor:
        """Transform every token on its own."""
        return self.outer(F.dropout(self.inner(x).relu(), self.dropout, self.training))

    def forward(self, x: Tensor) -> Tensor:
        """Apply both parts around residual connections."""
        if self.norm_first:
            x = x + self.attend(self.norms[0](x))
            return x + self.feed(self.norms[1](x))
        x = self.norms[0](x + self.attend(x))
        return self.norms[1](x + self.feed(x))


class Encoder(nn.Module):
    """Windows to tokens that know their context, (B, T, C) -> (B, N, D).

    Parameters
    ----------
    spatial : SubjectLinear
    patches : PatchEncoder
    layers : iterable of Layer
    """

    def __init__(
        self, spatial: SubjectLinear, patches: PatchEncoder, layers: Sequence[Layer]
    ) -> None:
        super().__init__()
        self.spatial, self.patches = spatial, patches
        self.layers = nn.ModuleList(layers)

    @property
    def dim(self) -> int:
        """D."""
        return self.patches.dim

    def embed(self, x: Tensor, subject: Tensor) -> Tensor:
        """Return tokens before positions and transformer."""
        return self.patches(self.spatial(x, subject))

    def look(self, tokens: Tensor) -> Tensor:
        """Add positions and let tokens look at each other."""
        tokens = tokens + positions(tokens.shape[1], tokens.shape[2], tokens.device)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens

    def forward(self, x: Tensor, subject: Tensor) -> Tensor:
        """Return the tokens of windows ``x``; ``subject (B,)`` int64."""
        return self.look(self.embed(x, subject))
