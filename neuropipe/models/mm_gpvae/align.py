"""Which of the latents that neural activity shows are those that behaviour shows too.

Under a linear decoder any mixture of the shared and the neural latents explains neural activity as
well as another, and which of them becomes the shared one is decided by chance in the first steps,
seldom to be undone. So neural activity may be learned alone first; then its latents are turned so
that those which behaviour follows best stand first, as the shared ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from neuropipe.models.mm_gpvae.model import MMGPVAENetwork, Modality
from neuropipe.models.mm_gpvae.network import Straight

COMPONENTS = 20  # of behaviour, at most, and half as many of their squares
RIDGE = 1e-3  # of the features' total variance
BINS = 20_000  # at most, that are looked at


def turnable(net: MMGPVAENetwork) -> bool:
    """Return whether there are shared and neural latents behind a linear neural decoder."""
    shared, own, _ = net.numbers
    if net.neural is None or net.behavior is None or net.config.posterior == "dense":
        return False
    return shared > 0 and own > 0 and net.neural.linear


@torch.no_grad()
def align(net: MMGPVAENetwork, data: Mapping[str, Tensor]) -> np.ndarray | None:
    """Turn the latents that neural activity shows, in place, behaviour's own first.

    Parameters
    ----------
    net : MMGPVAENetwork
        Trained on neural activity alone.
    data : mapping
        Pieces of both modalities.

    Returns
    -------
    (latent,) or None
        Share of each turned latent's variance that behaviour tells, the largest first; None where
        there is nothing to turn, or too little data.

    Notes
    -----
    Canonical directions of the posterior means against principal components of behaviour and
    their squares. Decoder and encoder are turned with the latents; encoders' precisions and length
    scales, which have no direction, become means weighted by the squared turn.
    """
    neural = net.neural
    if neural is None or not turnable(net):
        return None
    rows = max(1, BINS // data["neural"].shape[1])
    part = {name: x[:rows] for name, x in data.items()}
    only = {name: x for name, x in part.items() if not name.startswith("behavior")}
    seen = (part["neural_seen"].all(-1) & part["behavior_seen"].any(-1)).flatten()
    z = net.infer(only).mean[..., neural.which].flatten(0, 1)[seen].double().cpu().numpy()
    x = part["behavior"].flatten(0, 1)[seen].double().cpu().numpy()
    if len(z) < 10 * z.shape[1]:
        return None
    turn, told = directions(z, x)
    _turn(net, torch.as_tensor(turn).to(net.raw_length))
    return told


def directions(z: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return V (latent, direction) with V^T z uncorrelated, and how much x tells of each, 0 to 1.

    Parameters
    ----------
    z : (bin, latent)
    x : (bin, channel)
    """
    z = z - z.mean(0)
    f = _features(x)
    gram = f.T @ f
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    cross = f.T @ z
    total, fitted = z.T @ z / len(z), cross.T @ np.linalg.solve(gram, cross) / len(z)
    values, vectors = np.linalg.eigh(total)
    white = vectors / np.sqrt(np.maximum(values, 1e-9 * values[-1]))
    told, rotation = np.linalg.eigh(white.T @ fitted @ white)
    scale = np.sqrt(np.trace(total) / len(total))  # as large on the whole as before
    return scale * white @ rotation[:, ::-1], told[::-1]


def _features(x: np.ndarray) -> np.ndarray:
    """Return principal components (bin, component) of x and squares of the first, standardised."""
    x = x - x.mean(0)
    most = int(min(COMPONENTS, x.shape[1], max(1, len(x) // 100)))
    if x.shape[1] <= len(x):
        vectors = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :most]
        scores = x @ vectors
    else:
        values, left = np.linalg.eigh(x @ x.T)
        scores = (left * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, :most]
    f = np.concatenate([scores, scores[:, : max(1, most // 2)] ** 2], 1)
    f -= f.mean(0)
    return f / np.maximum(f.std(0), 1e-12)


def _turn(net: MMGPVAENetwork, turn: Tensor) -> None:
    """Replace z by V^T z in the neural decoder and encoder, and in the length scales."""
    neural = cast(Modality, net.neural)
    weight, _ = neural.matrix
    weight.copy_(weight @ torch.linalg.inv(turn).T)
    encoder = neural.encoder
    if isinstance(encoder, Straight):
        ends = [encoder.body[-1], encoder.line]
    else:
        ends = [cast(nn.Sequential, encoder)[-1]]
    share = turn.square() / turn.square().sum(0)
    for last in cast(list[nn.Linear], ends):
        for mixing, rows in ((turn, slice(0, len(turn))), (share, slice(len(turn), None))):
            last.weight[rows] = mixing.T @ last.weight[rows]
            last.bias[rows] = mixing.T @ last.bias[rows]
    if net.config.scales == "log" and not net.config.shared_length_scale:
        net.raw_length[neural.which] = share.T @ net.raw_length[neural.which]
