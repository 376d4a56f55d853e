"""Encoders from a bin's data to evidence, and decoders from a bin's latents to predictors.

Widths and activations (ELU) as in Gondur et al. (ICLR 2024); the authors' ELU on the output of the
image decoder, which cannot go below -1, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

CHANNELS = 16  # of the first convolution


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Return linear layers with ELU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ELU()]
    return nn.Sequential(*layers[:-1])


class Straight(nn.Module):
    """A perceptron beside a straight line from the data, which a fit can begin with alone."""

    def __init__(self, body: nn.Sequential, n_channels: int, out: int) -> None:
        super().__init__()
        self.body, self.line = body, nn.Linear(n_channels, out)
        for parameter in body[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both."""
        return self.body(x) + self.line(x)


class Frames(nn.Module):
    """Flat pixels (..., y * x) to images (bins, 1, y, x), and what a network makes of them back."""

    def __init__(self, shape: tuple[int, int], inner: nn.Module) -> None:
        super().__init__()
        self.shape, self.inner = shape, inner

    def forward(self, x: Tensor) -> Tensor:
        """Apply the inner network to each frame."""
        out = self.inner(x.reshape(-1, 1, *self.shape))
        return out.reshape(*x.shape[:-1], -1)


def image_encoder(shape: tuple[int, int], width: int, out: int) -> nn.Module:
    """Return two strided convolutions and two linear layers, pixels to `out` numbers."""
    y, x = ((side + 3) // 4 for side in shape)
    return Frames(shape, nn.Sequential(
        nn.Conv2d(1, CHANNELS, 5, stride=2, padding=2), nn.ELU(),
        nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, stride=2, padding=1), nn.ELU(), nn.Flatten(),
        nn.Linear(2 * CHANNELS * y * x, width), nn.ELU(), nn.Linear(width, out),
    ))  # fmt: skip


class Crop(nn.Module):
    """Images (bins, 1, y, x) to the flat pixels of their upper left part."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Return (bins, y * x)."""
        return x[:, 0, : self.shape[0], : self.shape[1]].flatten(1)


def image_decoder(n_latents: int, width: int, shape: tuple[int, int]) -> nn.Sequential:
    """Return two linear layers and two transposed convolutions, latents to pixels."""
    y, x = ((side + 3) // 4 for side in shape)
    return nn.Sequential(
        nn.Linear(n_latents, width), nn.ELU(),
        nn.Linear(width, 2 * CHANNELS * y * x), nn.ELU(),
        nn.Unflatten(-1, (2 * CHANNELS, y, x)),
        nn.ConvTranspose2d(2 * CHANNELS, CHANNELS, 4, stride=2, padding=1), nn.ELU(),
        nn.ConvTranspose2d(CHANNELS, 1, 4, stride=2, padding=1), Crop(shape),
    )  # fmt: skip


def make_encoder(
    kind: str, n_channels: int, hidden: Sequence[int], out: int, shape: tuple[int, int] | None
) -> nn.Module:
    """Return a network from a bin's data to `out` numbers."""
    if kind == "conv":
        return image_encoder(shape or (1, 1), hidden[-1] if hidden else 64, out)
    return perceptron([n_channels, *(hidden if kind == "mlp" else ()), out])


def make_decoder(
    kind: str, n_latents: int, hidden: Sequence[int], n_channels: int,
    shape: tuple[int, int] | None,
) -> nn.Sequential:  # fmt: skip
    """Return a network from a bin's latents to the predictor of each channel."""
    if kind == "conv":
        return image_decoder(n_latents, hidden[-1] if hidden else 64, shape or (1, 1))
    return perceptron([n_latents, *(tuple(hidden)[::-1] if kind == "mlp" else ()), n_channels])


def decode(decoder: nn.Sequential, z: Tensor) -> Tensor:
    """Return the predictor (..., channel) of latents (..., latent)."""
    return decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])


def jacobian(decoder: nn.Sequential, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the predictor (B, T, channel) at z (B, T, D) and its slopes (B, T, channel, D).

    Slopes are carried forward with the values, one latent at a time, layer by layer.
    """
    x = z.flatten(0, -2)
    n, d = x.shape
    slopes = torch.eye(d, dtype=x.dtype, device=x.device).repeat_interleave(n, 0)  # latent by bin
    for layer in decoder:
        if isinstance(layer, nn.ELU):
            grow = torch.where(x > 0, 1.0, x.exp())
            slopes = slopes * grow.repeat(d, *[1] * (x.ndim - 1))
        else:  # affine, so slopes see it without its offset
            slopes = layer(slopes) - layer(torch.zeros_like(slopes[:1]))
        x = layer(x)
    out = slopes.unflatten(0, (d, n)).permute(1, 2, 0)
    return x.unflatten(0, z.shape[:-1]), out.unflatten(0, z.shape[:-1])


class TimeMap(nn.Module):
    """The paper's learned map over time, shared by a modality's latents: bins to coefficients.

    Parameters
    ----------
    n_bins, n_coefficients : int
        T and F; trials must have this length and lack no bin.
    """

    def __init__(self, n_bins: int, n_coefficients: int) -> None:
        super().__init__()
        self.mean = nn.Linear(n_bins, n_coefficients)
        self.log_sd = nn.Linear(n_bins, n_coefficients, bias=False)

    def forward(self, mean: Tensor, log_sd: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, D) to (B, D, F), for means and log sds."""
        return self.mean(mean.transpose(1, 2)), self.log_sd(log_sd.transpose(1, 2))
