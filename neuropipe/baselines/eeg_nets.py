"""Two published convolutional networks: trials (trial, sample, contact) to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EEGNetModule(nn.Module):
    """Filters in time, a spatial filter for each, and a separable convolution.

    Parameters
    ----------
    n_contacts, n_samples, n_classes : int
    n_temporal : int
        F1 of the paper.
    depth : int
        D, spatial filters of each temporal one; F2 = F1 D.
    kernel, first_pool, second_pool : int
        Samples.
    dropout : float

    Notes
    -----
    Source: Lawhern et al., "EEGNet", Journal of Neural Engineering 2018, table 2. Without the
    limits on the length of weights.
    """

    def __init__(
        self,
        n_contacts: int,
        n_samples: int,
        n_classes: int,
        *,
        n_temporal: int = 8,
        depth: int = 2,
        kernel: int = 65,
        first_pool: int = 8,
        second_pool: int = 8,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        wide = n_temporal * depth
        self.body = nn.Sequential(
            nn.Conv2d(1, n_temporal, (1, kernel), padding=(0, kernel // 2), bias=False),
            nn.BatchNorm2d(n_temporal),
            nn.Conv2d(n_temporal, wide, (n_contacts, 1), groups=n_temporal, bias=False),
            nn.BatchNorm2d(wide),
            nn.ELU(),
            nn.AvgPool2d((1, first_pool)),
            nn.Dropout(dropout),
            nn.Conv2d(wide, wide, (1, 17), padding=(0, 8), groups=wide, bias=False),
            nn.Conv2d(wide, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ELU(),
            nn.AvgPool2d((1, second_pool)),
            nn.Dropout(dropout),
            nn.Flatten(),
        )
        self.head = nn.Linear(wide * (n_samples // first_pool // second_pool), n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (trial, class)."""
        return self.head(self.body(x.mT[:, None]))


class ConformerModule(nn.Module):
    """Filters in time and space, pooled to tokens, and a transformer over them.

    Parameters
    ----------
    n_contacts, n_samples, n_classes : int
    n_filters : int
        Also the width of a token.
    kernel, pool, step : int
        Samples: length of the filters, of the averages and between them.
    n_layers, n_heads : int
    dropout : float

    Notes
    -----
    Source: Song et al., "EEG Conformer", IEEE TNSRE 2023; one hidden layer before the classes
    instead of two.
    """

    def __init__(
        self,
        n_contacts: int,
        n_samples: int,
        n_classes: int,
        *,
        n_filters: int = 40,
        kernel: int = 25,
        pool: int = 75,
        step: int = 15,
        n_layers: int = 2,
        n_heads: int = 4,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.patches = nn.Sequential(
            nn.Conv2d(1, n_filters, (1, kernel)),
            nn.Conv2d(n_filters, n_filters, (n_contacts, 1)),
            nn.BatchNorm2d(n_filters),
            nn.ELU(),
            nn.AvgPool2d((1, pool), (1, step)),
            nn.Dropout(dropout),
            nn.Conv2d(n_filters, n_filters, 1),
        )
        layer = nn.TransformerEncoderLayer(
            n_filters, n_heads, 4 * n_filters, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        n_tokens = (n_samples - kernel + 1 - pool) // step + 1
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(n_tokens * n_filters, 64), nn.ELU(), nn.Dropout(dropout),
            nn.Linear(64, n_classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (trial, class)."""
        tokens = self.patches(x.mT[:, None])[:, :, 0].mT
        return self.head(self.layers(tokens))


def shortest(kind: str) -> int:
    """Return the samples that a trial needs at least."""
    return {"eegnet": 64, "eeg_conformer": 99}[kind]


def build(kind: str, n_contacts: int, n_samples: int, n_classes: int) -> nn.Module:
    """Return a new network, ``eegnet`` or ``eeg_conformer``."""
    made = {"eegnet": EEGNetModule, "eeg_conformer": ConformerModule}[kind]
    return made(n_contacts, n_samples, n_classes)


def moved(x: Tensor, by: Tensor) -> Tensor:
    """Shift each trial (trial, sample, contact) later by its own samples; zeros come in."""
    at = torch.arange(x.shape[1], device=x.device) - by[:, None]
    inside = (at >= 0) & (at < x.shape[1])
    row = torch.arange(len(x), device=x.device)[:, None]
    return x[row, at.clamp(0, x.shape[1] - 1)] * inside[..., None]
