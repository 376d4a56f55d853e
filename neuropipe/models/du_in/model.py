"""The three networks of Du-IN: units by reconstruction, masked codes, and classes.

Legend: as in ``encoder``; K codes, L classes, y labels. Equations are those of Zheng et al. (2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropipe.models.du_in.codebook import Codebook, perplexity
from neuropipe.models.du_in.encoder import (
    Encoder,
    Layer,
    PatchEncoder,
    SubjectLinear,
    draw_linear,
    positions,
)
from neuropipe.training.processes import draw, part, reduce_sum


class Sizes(NamedTuple):
    """Everything that shapes the networks.

    Attributes
    ----------
    n_subjects, n_contacts, n_hidden : int
    patch : int
        Samples.
    filters, kernels, strides : tuple of int
    n_layers, n_heads, head_dim, n_inner : int
    dropout : float
    n_codes, code_dim : int
    decay, revival : float
    decoder_layers, decoder_filters : int
    head_width : int
    nonlinear, norm_first, small : bool
        ``small``: published initial weights of sd 0.02 at both ends.
    """

    n_subjects: int
    n_contacts: int
    n_hidden: int = 16
    patch: int = 100
    filters: tuple[int, ...] = (128, 128, 16)
    kernels: tuple[int, ...] = (19, 3, 3)
    strides: tuple[int, ...] = (10, 1, 1)
    n_layers: int = 8
    n_heads: int = 8
    head_dim: int = 64
    n_inner: int = 320
    dropout: float = 0.2
    n_codes: int = 2048
    code_dim: int = 64
    decay: float = 0.99
    revival: float = 0.0
    decoder_layers: int = 4
    decoder_filters: int = 128
    head_width: int = 128
    nonlinear: bool = True
    norm_first: bool = False
    small: bool = False

    def layers(self, dim: int, n_layers: int) -> list[Layer]:
        """Return a stack of transformer layers."""
        return [
            Layer(dim, self.n_heads, self.head_dim, self.n_inner, self.dropout, depth + 1,
                  norm_first=self.norm_first)
            for depth in range(n_layers)
        ]  # fmt: skip

    def encoder(self) -> Encoder:
        """Return a new encoder."""
        patches = PatchEncoder(
            self.n_hidden, self.patch, self.filters, self.kernels, self.strides,
            nonlinear=self.nonlinear,
        )  # fmt: skip
        spatial = SubjectLinear(self.n_subjects, self.n_contacts, self.n_hidden, small=self.small)
        return Encoder(spatial, patches, self.layers(patches.dim, self.n_layers))


def upsampler(n_in: int, n_out: int, kernel: int, stride: int) -> nn.ConvTranspose1d:
    """Return a transposed convolution that lengthens a signal exactly `stride` times."""
    padding = max(0, math.ceil((kernel - stride) / 2))
    more = stride - kernel + 2 * padding
    return nn.ConvTranspose1d(n_in, n_out, kernel, stride, padding, more)


class Regressor(nn.Module):
    """Tokens to voltages, (B, N, D) -> (B, T, C): the decoder of stage 1."""

    def __init__(self, sizes: Sizes, dim: int) -> None:
        super().__init__()
        width, hidden = sizes.decoder_filters, sizes.n_hidden
        fine = math.prod(sizes.strides)
        self.layers = nn.ModuleList(sizes.layers(dim, sizes.decoder_layers))
        self.rise = nn.Sequential(
            upsampler(dim, width, 3, 1),
            upsampler(width, width, 3, 1),
            upsampler(width, width, sizes.patch // fine, sizes.patch // fine),
            upsampler(width, width, 9, 1),
            upsampler(width, hidden, 2 * fine - 1, fine),
        )
        self.mix = nn.Linear(hidden, hidden)
        if sizes.small:
            draw_linear(self.mix)
        self.spatial = SubjectLinear(sizes.n_subjects, hidden, sizes.n_contacts, small=sizes.small)

    def forward(self, tokens: Tensor, subject: Tensor) -> Tensor:
        """Return reconstructed voltages."""
        tokens = tokens + positions(tokens.shape[1], tokens.shape[2], tokens.device)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.spatial(self.mix(self.rise(tokens.mT).mT), subject)


class UnitNet(nn.Module):
    """Stage 1: voltages to codes and back (equation 5)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = sizes.encoder()
        dim = self.encoder.dim
        self.codebook = Codebook(
            dim, sizes.n_codes, sizes.code_dim, decay=sizes.decay, revival=sizes.revival
        )
        self.decoder = Regressor(sizes, dim)

    def points(self, x: Tensor, subject: Tensor) -> Tensor:
        """Return where tokens lie on the unit sphere, (B, N, Q)."""
        return self.codebook.project(self.encoder(x, subject))

    def codes(self, x: Tensor, subject: Tensor) -> Tensor:
        """Return the code of every token, (B, N) int64."""
        return self.codebook.search(self.points(x, subject))

    def loss(
        self, x: Tensor, subject: Tensor, present: Tensor, *, quantised: bool, weight: float
    ) -> dict[str, Tensor]:
        """Return the squared error of reconstruction plus the commitment.

        Parameters
        ----------
        x : (B, T, C)
        subject : (B,) int64
        present : (B, C) bool
            Contacts that the subject has.
        quantised : bool
            False while warming up: tokens reach the decoder as they are.
        weight : float
            Of the commitment.
        """
        tokens = self.encoder(x, subject)
        if not quantised:
            out = self.codebook.back(self.codebook.project(tokens))
            error = squared_error(self.decoder(out, subject), x, present)
            return {"loss": error, "reconstruction": error}
        found = self.codebook(tokens)
        error = squared_error(self.decoder(found.out, subject), x, present)
        return {
            "loss": error + weight * found.commitment,
            "reconstruction": error,
            "commitment": found.commitment,
            "perplexity": part(perplexity(reduce_sum(found.use))),
        }


def squared_error(got: Tensor, want: Tensor, present: Tensor) -> Tensor:
    """Return the mean squared error over contacts that are there."""
    error = (got.float() - want.float()).square().mean(1)
    return (error * present).sum() / reduce_sum(present.sum()).clamp(min=1)


class MaskedNet(nn.Module):
    """Stage 2: the codes of hidden tokens from the others (equation 6).

    Parameters
    ----------
    sizes : Sizes
    points : bool
        Predict points of the unit sphere instead of codes.
    """

    def __init__(self, sizes: Sizes, *, points: bool = False) -> None:
        super().__init__()
        self.encoder = sizes.encoder()
        dim = self.encoder.dim
        self.hidden = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=0.02))
        self.head = draw_linear(nn.Linear(dim, sizes.code_dim if points else sizes.n_codes))

    def forward(self, x: Tensor, subject: Tensor, mask: Tensor) -> Tensor:
        """Return (B, N, K), logits; each token's come from the pass in which it was hidden."""
        tokens = self.encoder.embed(x, subject)
        first = self.encoder.look(torch.where(mask[..., None], self.hidden, tokens))
        second = self.encoder.look(torch.where(mask[..., None], tokens, self.hidden))
        return self.head(torch.where(mask[..., None], first, second))

    def loss(
        self, x: Tensor, subject: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return how badly hidden tokens are predicted.

        Parameters
        ----------
        x, subject
        target : (B, N) int64 or (B, N, Q)
            Codes, for a cross-entropy; or points, for 1 - cosine.
        mask : (B, N) bool, optional
            By default drawn here.
        """
        if mask is None:
            mask = draw_mask(target.shape[0], target.shape[1], x.device)
        out = self(x, subject, mask).float()
        if target.is_floating_point():
            apart = 1 - F.cosine_similarity(out, target, dim=-1).mean()
            return {"loss": part(apart, len(out))}
        loss = F.cross_entropy(out.flatten(0, 1), target.flatten())
        right = (out.argmax(-1) == target).double().mean()
        return {"loss": part(loss, len(out)), "accuracy": part(right, len(out))}


def draw_mask(n: int, length: int, device: torch.device | None = None) -> Tensor:
    """Return masks (n, length) bool that hide half of the tokens of each row."""
    order = draw(n, lambda m, g: torch.rand(m, length, generator=g, device=device)).argsort(1)
    return order < (length + 1) // 2


class Classifier(nn.Module):
    """Stage 3: the class of a trial, from all of its tokens (B, N, D) -> (B, L).

    Parameters
    ----------
    sizes : Sizes
    n_tokens, n_classes : int
    quantised : bool
        Keep the codebook between encoder and head.
    sigmoid : bool
        End in a sigmoid before the softmax, as the authors' code does. With 61 classes the loss
        can then not fall below 3.139 nats; kept for comparison only.
    """

    def __init__(
        self,
        sizes: Sizes,
        n_tokens: int,
        n_classes: int,
        *,
        quantised: bool = False,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = sizes.encoder()
        dim = self.encoder.dim
        self.codebook = (
            Codebook(dim, sizes.n_codes, sizes.code_dim, decay=sizes.decay) if quantised else None
        )
        inner, outer = (
            nn.Linear(n_tokens * dim, sizes.head_width),
            nn.Linear(sizes.head_width, n_classes),
        )
        if sizes.small:
            draw_linear(inner)
            draw_linear(outer)
        self.head = nn.Sequential(nn.Flatten(), inner, nn.ReLU(), outer)
        self.sigmoid, self.n_classes = sigmoid, n_classes

    def forward(self, x: Tensor, subject: Tensor) -> Tensor:
        """Return logits (B, L)."""
        tokens = self.encoder(x, subject)
        if self.codebook is not None:
            tokens = self.codebook(tokens).out
        logits = self.head(tokens)
        return logits.sigmoid() if self.sigmoid else logits

    def loss(self, x: Tensor, subject: Tensor, y: Tensor, smoothing: float) -> dict[str, Tensor]:
        """Return the cross-entropy of labels (B,)."""
        logits = self(x, subject).float()
        loss = F.cross_entropy(logits, y, label_smoothing=smoothing)
        right = (logits.argmax(-1) == y).double().mean()
        return {"loss": part(loss, len(y)), "accuracy": part(right, len(y))}


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """Move each window (B, T, C) later by its own number of samples; zeros come in."""
    n, length, _ = x.shape
    at = torch.arange(length, device=x.device) - by[:, None]
    inside = (at >= 0) & (at < length)
    row = torch.arange(n, device=x.device)[:, None]
    return x[row, at.clamp(0, length - 1)] * inside[..., None]


def n_weights(module: nn.Module, extra: Sequence[str] = ("code", "size")) -> int:
    """Return how many numbers a network has learned: weights, and the buffers of a codebook."""
    kept = [b for name, b in module.named_buffers() if name.rsplit(".", 1)[-1] in extra]
    return sum(p.numel() for p in module.parameters()) + sum(b.numel() for b in kept)
