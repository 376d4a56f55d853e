"""What a fit has learned, put in order and laid out as labelled arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neuropipe.models.mm_gpvae.batches import Scaling
from neuropipe.models.mm_gpvae.config import REVISION
from neuropipe.models.mm_gpvae.model import MMGPVAENetwork
from neuropipe.models.mm_gpvae.posterior import Posterior
from neuropipe.models.mm_gpvae.predict import expected, posterior

KINDS = ("shared", "neural", "behavior")
BINS = 6000  # of the training data, at most, that variances are partitioned over


def kinds(numbers: tuple[int, int, int]) -> np.ndarray:
    """Return which kind each latent is, (latent,)."""
    return np.repeat(np.array(KINDS, dtype=object), numbers)


@torch.no_grad()
def variance_partition(net: MMGPVAENetwork, batch: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the share of each modality's predicted variance that each latent is needed for.

    Returns
    -------
    dict of (latent,)
        1 - V_d / V by modality, V the summed variance over bins of the predicted channels, in
        units of their noise (counts: of the square root of their mean), and V_d the same with
        latent d at its mean.
    """
    rows = max(1, BINS // max(batch["neural"].shape[1], 1))
    part = {name: x[:rows] for name, x in batch.items()}
    q = posterior(net, part)
    bins = torch.arange(q.mean.shape[1], device=q.mean.device) < part["n_bins"][:, None]

    def spread(means: Tensor) -> dict[str, float]:
        out = {}
        certain = Posterior(q.coefficient, means, torch.zeros_like(means), q.divergence)
        for name, value in expected(net, certain).items():
            flat = value[bins].double()
            modality = dict(net.modalities())[name].likelihood
            noise = flat.mean(0) if modality.family != "gaussian" else modality.scale().double()
            out[name] = float((flat.var(0, unbiased=False) / noise.clamp(min=1e-9)).sum())
        return out

    whole = spread(q.mean)
    out = {name: np.zeros(net.n_latents) for name in whole}
    for d in range(net.n_latents):
        means = q.mean.clone()
        means[..., d] = q.mean[bins][:, d].mean()
        less = spread(means)
        for name, total in whole.items():
            out[name][d] = 1 - less[name] / total if total > 0 else 0.0
    return out


def order_of(shares: Mapping[str, np.ndarray], numbers: tuple[int, int, int]) -> np.ndarray:
    """Return the order of latents: by kind, and within a kind the one that explains most first."""
    total = np.sum(list(shares.values()), 0)
    kind = np.repeat(np.arange(3), numbers)
    return np.lexsort([-total, kind])


def labelled(
    net: MMGPVAENetwork, scaling: Scaling, order: np.ndarray, shares: Mapping[str, np.ndarray],
    tried: tuple[tuple[tuple[int, int, int], ...], np.ndarray] | None,
) -> xr.Dataset:  # fmt: skip
    """Return everything learned as one Dataset, the estimator's `learns`."""
    one, none = {"units": "1"}, {"units": ""}
    has = dict(net.modalities())

    def array(tensor: Tensor) -> np.ndarray:
        return tensor.detach().double().cpu().numpy()

    def loading(name: str) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = (array(x) for x in has[name].matrix)
        full = np.zeros((len(weight), net.n_latents))
        full[:, has[name].which.cpu().numpy()] = weight
        return full[:, order], bias

    variables: dict[str, Any] = {
        "length_scale": (
            "latent", array(net.length)[order] * scaling.bin_width_s, {"units": "s"},
        ),
        "modality_weight": (
            "modality", [net.start.weight if n == "behavior" else 1.0 for n in has], one,
        ),
        "variance_explained": (
            ("modality", "latent"), np.stack([shares[n][order] for n in has]), one,
        ),
    }  # fmt: skip
    coords: dict[str, Any] = {
        "kind": ("latent", kinds(net.numbers), none),
        "modality": ("modality", np.array(list(has), dtype=object), none),
    }
    if "neural" in has:
        coords["unit"] = ("unit", np.array(scaling.units, dtype=object), none)
        if net.config.neural_decoder == "linear":
            weight, bias = loading("neural")
            variables["neural_loading"] = (("unit", "latent"), weight, one)
            variables["neural_offset"] = ("unit", bias, one)
    if "behavior" in has:
        likelihood = has["behavior"].likelihood
        coords["channel"] = ("channel", np.array(scaling.channels, dtype=object), none)
        coords["channel_unit"] = ("channel", np.array(scaling.channel_units, dtype=object), none)
        if net.config.behavior_decoder == "linear":
            weight, _ = loading("behavior")
            scale = scaling.scale[:, None]
            variables["behavior_loading"] = (("channel", "latent"), weight * scale, none)
        if likelihood.family == "gaussian":
            variance = array(likelihood.scale())
            if likelihood.factor is not None:
                variance = variance + (array(likelihood.factor) ** 2).sum(1)
            sd = np.sqrt(variance) * scaling.scale
            variables["behavior_noise_sd"] = ("channel", sd, none)
    if tried is not None:
        numbers, score = tried
        names = [f"{s}-{n}-{b}" for s, n, b in numbers]
        variables["dimension_score"] = ("dimension", score, {"units": "nats/bin"})
        coords["dimension"] = ("dimension", np.array(names, dtype=object), none)
    attrs = {
        "preset": net.config.preset, "bin_width_s": scaling.bin_width_s,
        "neural_likelihood": scaling.family, "n_coefficients": len(net.frequency),
        "min_length_scale_s": net.min_length * scaling.bin_width_s, "revision": REVISION,
    }  # fmt: skip
    return xr.Dataset(variables, coords, attrs)
