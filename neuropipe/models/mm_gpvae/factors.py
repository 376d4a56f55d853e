"""Where neural activity starts from: factors of smoothed data in place of random weights.

From random weights a latent may fall silent, or two may share what is one's, and stay so: with
three latents and 80 trials three of five starts did. Principal components of smoothed log rates
span nearly what the latents span; they are turned so that each has a time course of its own, and
the encoder starts as their regression on the data of a bin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from neuropipe.models.mm_gpvae.model import MMGPVAENetwork
from neuropipe.models.mm_gpvae.network import Straight

SMOOTHING = 0.35  # sd of the Gaussian that the data are smoothed with, in length scales
BINS = 40_000  # at most, that are looked at
FLOOR = 0.1  # of a unit's mean, added to its smoothed rate before the logarithm


@torch.no_grad()
def start_from_factors(net: MMGPVAENetwork, data: Mapping[str, Tensor]) -> None:
    """Set the linear neural decoder and its encoder, in place, to factors of the training data.

    Parameters
    ----------
    net : MMGPVAENetwork
    data : mapping
        Pieces of the training windows.

    Notes
    -----
    The regression of a factor of variance 1 on a bin explains a share s of it. As evidence on the
    factor that is its value over s with precision s / (1 - s), the prior being left to the model.

    Nothing is done where there is no such encoder (`neural_start` random, a decoder that is not
    linear), or no more units than latents.
    """
    part = net.neural
    if part is None or not isinstance(part.encoder, Straight):
        return
    k, n_units = len(part.which), len(net.stretch)
    if n_units <= k:
        return
    rows = max(1, BINS // data["neural"].shape[1])
    lengths = data["n_bins"][:rows].long().tolist()

    def pieces(x: Tensor) -> list[np.ndarray]:
        whole = x[:rows].double().cpu().numpy()
        return [piece[:n] for piece, n in zip(whole, lengths, strict=True)]

    counted = part.likelihood.family != "gaussian"
    seen = data["neural_seen"]
    filled = torch.where(seen, data["neural"], net.shift if counted else 0.0)
    width = max(1.0, SMOOTHING * min(net.start.length))
    smooth = [gaussian_filter1d(b, width, axis=0, mode="reflect") for b in pieces(filled)]
    if counted:
        floor = FLOOR * net.shift.double().cpu().numpy()
        smooth = [np.log(b + floor) for b in smooth]
    factor, loading = factors(smooth, k, lag=max(1, round(min(net.start.length))))
    shown = np.concatenate(pieces(net.standard("neural", data["neural"], seen)))
    slope, offset, share = regression(shown, factor)
    weight, bias = part.matrix
    weight.copy_(torch.as_tensor(loading).to(weight))
    if counted:  # the mean rate is exp(offset + half the variance of the log rate)
        bias.sub_(0.5 * weight.square().sum(1))
    line = part.encoder.line
    line.weight.zero_()
    line.weight[:k] = torch.as_tensor(slope / share[:, None]).to(weight)
    line.bias[:k] = torch.as_tensor(offset / share).to(weight)
    line.bias[k:] = torch.as_tensor(np.log(np.expm1(share / (1 - share)))).to(weight)


def factors(blocks: Sequence[np.ndarray], k: int, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Return factors (bin, factor) of variance 1, and loadings (channel, factor).

    Parameters
    ----------
    blocks : sequence of (bin, channel)
        Smooth data.
    k : int
        Factors; fewer than channels.
    lag : int
        Bins; the factors are uncorrelated at this lag too, the smoothest first (Molgedey and
        Schuster, Phys. Rev. Lett. 72, 1994).
    """
    mean = np.concatenate(blocks).mean(0)
    centred = [b - mean for b in blocks]
    x = np.concatenate(centred)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    u, size = vectors[:, ::-1][:, :k], np.sqrt(np.maximum(values[::-1][:k], 1e-6))
    whitened = [b @ u / size for b in centred]
    long = [b for b in whitened if len(b) > lag]
    later = sum((b[lag:].T @ b[:-lag] for b in long), np.eye(k) * 0.0)
    turn = np.linalg.eigh(later + later.T)[1][:, ::-1]
    rest = max(float(values[:-k].mean()), 0.0)  # noise, as in probabilistic components
    kept = np.sqrt(np.maximum(size**2 - rest, 0.01 * size**2))
    return np.concatenate(whitened) @ turn, u * kept @ turn


def regression(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return slopes (target, channel), offsets and explained shares (target,), of y on x.

    Parameters
    ----------
    x : (bin, channel)
    y : (bin, target)
        Of variance 1.
    """
    mean = x.mean(0)
    gram = (x - mean).T @ (x - mean)
    # data that never change tell nothing of the factors, which is no error
    gram += max(1e-3 * np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram))
    slope = np.linalg.solve(gram, (x - mean).T @ y).T
    fitted = (x - mean) @ slope.T
    share = np.clip((fitted * y).mean(0), 0.02, 0.95)
    return slope, -slope @ mean, share
