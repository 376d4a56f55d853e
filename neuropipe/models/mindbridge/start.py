"""Linear decoders in closed form, from which the network starts.

Legend: t true embeddings of length 1 (stimulus, feature), z their whitened components (stimulus,
component), x mean patterns (stimulus, voxel) of one subject, B encoding z -> x, W decoding x -> z.

Two decoders are fitted and compared on held-out stimuli of the training data. ``ridge`` maps x to
z. ``inversion`` fits the encoding model x = z B + noise and inverts it by Bayes' rule; what brains
in general make of z, learned from all subjects at hand, is the prior of B. With few trials of a new
subject the second knows more, with many the first bends less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # times the number of voxels
SHRINK = (0.3, 1.0, 3.0)  # of the encoding weights, times their mean prior variance
TRUST = (1.0, 0.3, 0.1, 0.03)  # in the noise covariance, which few trials underestimate
OWN_NOISE = 0.3  # share of the noise that is taken as each voxel's own
ISOTROPIC = 0.3  # share of the prior that holds for all components alike
FOLDS = 4
EXACT = 1500  # stimuli or features up to which components are exact, else a randomised sketch
RELATIVE = 1e-3  # least length of a component, of the longest


class Components(NamedTuple):
    """Whitened principal components of embeddings: t = mean + (z sd) basis' + rest."""

    mean: Tensor  # (feature,)
    basis: Tensor  # (feature, component), orthonormal
    sd: Tensor  # (component,)

    def of(self, t: Tensor) -> Tensor:
        """Return z of embeddings (stimulus, feature)."""
        return (t - self.mean) @ self.basis / self.sd


class Linear(NamedTuple):
    """A linear decoder and encoder of one subject: z = x W + w0, x = z B + b0."""

    decode: Tensor  # (voxel, component)
    decode_offset: Tensor  # (component,)
    encode: Tensor  # (component, voxel)
    encode_offset: Tensor  # (voxel,)
    kind: str


def components(t: Tensor, most: int) -> Components:
    """Return the leading principal components of embeddings of length 1.

    Parameters
    ----------
    t : (stimulus, feature)
    most : int
        Components at most; fewer where the embeddings have fewer.
    """
    mean = t.mean(0)
    c = t - mean
    if min(c.shape) > EXACT:
        devices = [t.device.index] if t.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(0)  # of the sketch; what it returns does not depend on it by much
            _, length, basis = torch.svd_lowrank(c, min(most + 16, *c.shape), niter=6)
    else:
        wide = c.shape[0] < c.shape[1]
        value, vector = torch.linalg.eigh((c @ c.T if wide else c.T @ c).double())
        length, basis = value.flip(0).clamp_min(0).sqrt(), vector.flip(1)
        if wide:
            basis = c.double().T @ (basis / length.clamp_min(1e-12))
    n = min(most, int((length > RELATIVE * length[0]).sum()))
    return Components(
        mean.double(), basis[:, :n].double(), length[:n].double() / len(t) ** 0.5
    )  # fmt: skip


def encoding(z: Tensor, x: Tensor, prior: Tensor, shrink: float) -> Tensor:
    """Return B (component, voxel), the mean over voxels of whose prior is N(0, prior).

    Parameters
    ----------
    z : (stimulus, component)
    x : (stimulus, voxel), centred
    prior : (component, component)
    shrink : float
        Noise variance over mean signal variance.
    """
    value, vector = torch.linalg.eigh(prior)
    root = vector * value.clamp_min(0).sqrt()
    zr = z @ root
    level = shrink * zr.square().sum() / len(z)
    eye = torch.eye(zr.shape[1], dtype=z.dtype, device=z.device)
    return root @ torch.linalg.solve(zr.T @ zr + level * eye, zr.T @ x)


def whitened_map(encode: Tensor, residual: Tensor) -> Tensor:
    """Return N^-1 B' (voxel, component), N the shrunk covariance of the residuals.

    N = (1 - r) R'R / n + r diag(R'R / n), inverted through the smaller of voxels and stimuli.
    """
    n, n_voxels = residual.shape
    own = residual.square().mean(0).clamp_min(1e-8)
    if n_voxels <= n:
        cov = (1 - OWN_NOISE) * residual.T @ residual / n + OWN_NOISE * torch.diag(own)
        return torch.linalg.solve(cov, encode.T)
    scaled = residual / (OWN_NOISE * own)
    inner = residual @ scaled.T + torch.eye(n, dtype=own.dtype, device=own.device) * (
        n / (1 - OWN_NOISE)
    )
    first = encode.T / (OWN_NOISE * own)[:, None]
    return first - scaled.T @ torch.linalg.solve(inner, scaled @ encode.T)


def inversions(z: Tensor, x: Tensor, prior: Tensor, shrink: float) -> list[Tensor]:
    """Return W (voxel, component) for each of `TRUST`: the posterior mean of z ~ N(0, 1)."""
    encode = encoding(z, x, prior, shrink)
    white = whitened_map(encode, x - z @ encode)
    gram = encode @ white
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return [trust * white @ torch.linalg.inv(trust * gram + eye) for trust in TRUST]


def ridges(z: Tensor, x: Tensor) -> list[Tensor]:
    """Return W (voxel, component) of ridge regression for each of `RIDGE`; both are centred."""
    n, n_voxels = x.shape
    small = x @ x.T if n <= n_voxels else x.T @ x
    value, vector = torch.linalg.eigh(small)
    left = vector.T @ z if n <= n_voxels else vector.T @ (x.T @ z)
    out = []
    for alpha in RIDGE:
        solved = vector @ (left / (value[:, None] + alpha * n_voxels))
        out.append(x.T @ solved if n <= n_voxels else solved)
    return out


class Power(NamedTuple):
    """How strongly one brain responds: mean of b b' over voxels, and stimuli it was seen with."""

    value: Tensor  # (component, component)
    n_stimuli: int


def response_power(z: Tensor, x: Tensor) -> Power:
    """Return how strongly one brain responds to each component.

    Parameters
    ----------
    z : (stimulus, component)
    x : (stimulus, voxel), centred

    Notes
    -----
    Mean over voxels of b b', from the product of two halves of the stimuli, so that noise does not
    count as response; it may have negative parts.
    """
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    half = [encoding(z[i::2], x[i::2], eye, 1.0) for i in (0, 1)]
    both = half[0] @ half[1].T / x.shape[1]
    return Power((both + both.T) / 2, len(z))


def brain_prior(powers: Sequence[Power]) -> Tensor:
    """Return the response power of several brains as a prior, (component, component).

    Weighted by the squared number of stimuli, as the noise of the estimates asks; without its
    negative parts, and with a share that knows no direction, for what noise has hidden.
    """
    weight = [float(p.n_stimuli) ** 2 for p in powers]
    mean = sum(w * p.value for w, p in zip(weight, powers, strict=True)) / sum(weight)
    value, vector = torch.linalg.eigh(mean)
    value = value.clamp_min(0)
    value = (1 - ISOTROPIC) * value + ISOTROPIC * value.mean().clamp_min(1e-8)
    return (vector * value) @ vector.T


def mean_log_rank(guess: Tensor, true: Tensor) -> float:
    """Return the mean log rank of the right stimulus by cosine, over both directions; 0 is best.

    Every rank counts, the first ones most, so that few stimuli tell decoders apart.
    """
    s = F.normalize(guess, dim=1) @ F.normalize(true, dim=1).T
    right = torch.diagonal(s)[:, None]
    ranks = [1 + (m > right).sum(1) + ((m == right).sum(1) - 1) / 2 for m in (s, s.T)]
    return float(sum(r.double().log().mean() for r in ranks) / 2)


def fit_linear(z: Tensor, x: Tensor, others: Sequence[Power], kind: str) -> Linear:
    """Fit one subject's decoder and encoder.

    Parameters
    ----------
    z : (stimulus, component)
    x : (stimulus, voxel)
        Mean patterns.
    others : sequence of Power
        Of other brains; the subject's own is added.
    kind : str
        Kind and strength, from `compared`.
    """
    mean, z_mean = x.mean(0), z.mean(0)
    decode = dict(candidates(z, x - mean, others, [kind.split()[0]]))[kind]
    prior = brain_prior([*others, response_power(z, x - mean)])
    encode = encoding(z, x - mean, prior, 1.0)
    offset = (z_mean if kind.startswith("ridge") else torch.zeros_like(z_mean)) - mean @ decode
    return Linear(decode, offset, encode, mean - z_mean @ encode, kind)


def compared(
    z: Tensor, x: Tensor, sd: Tensor, others: Sequence[Power], kinds: Sequence[str]
) -> dict[str, float]:
    """Return how each decoder ranks stimuli of the training data that it was not fitted on.

    Parameters
    ----------
    z, x, others
        As of `fit_linear`; the subject's own power is that of the part that is fitted.
    sd : (component,)
        Of the embeddings along each component; what weighs a component.
    kinds : sequence of {"ridge", "inversion"}

    Returns
    -------
    dict of kind and strength to `mean_log_rank`, low is good
    """
    fold = torch.arange(len(z), device=z.device) % min(FOLDS, len(z))
    out: dict[str, float] = {}
    for k in fold.unique():
        train, held = fold != k, fold == k
        mean, share = x[train].mean(0), float(held.sum()) / len(z)
        for name, w in candidates(z[train], x[train] - mean, others, kinds):
            rank = mean_log_rank((x[held] - mean) @ w * sd, z[held] * sd)
            out[name] = out.get(name, 0.0) + share * rank
    return out


def choices(scores: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the best decoder of each subject, by its own score and the mean over subjects.

    Few stimuli make single scores noisy, and what suits one brain mostly suits the others.
    """
    mean = {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}
    both = [{name: own[name] + mean[name] for name in mean} for own in scores]
    return [min(total, key=total.__getitem__) for total in both]


def candidates(
    z: Tensor, x: Tensor, others: Sequence[Power], kinds: Sequence[str]
) -> list[tuple[str, Tensor]]:
    """Return every decoder to compare, with its name."""
    out = []
    if "ridge" in kinds:
        out += [(f"ridge {a:g}", w) for a, w in zip(RIDGE, ridges(z - z.mean(0), x), strict=True)]
    if "inversion" in kinds:
        prior = brain_prior([*others, response_power(z, x)])
        for shrink in SHRINK:
            maps = inversions(z, x, prior, shrink)
            out += [
                (f"inversion {shrink:g} {trust:g}", w) for trust, w in zip(TRUST, maps, strict=True)
            ]
    return out
