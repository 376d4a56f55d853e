"""How a Neuroformer is trained: first weights, what is trained, and when to stop."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from neuropipe.batching.raster import Raster, split_tail
from neuropipe.batching.tokens import cut_windows
from neuropipe.models.neuroformer.attention import Block
from neuropipe.models.neuroformer.batches import Loader, in_batches
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.model import Batch, Network
from neuropipe.models.neuroformer.scaling import Scaling
from neuropipe.training import processes
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.history import History
from neuropipe.training.loop import fit_gradient

log = logging.getLogger(__name__)

PUBLISHED_SD = 0.02  # of all weights in the authors' network
EMBEDDING_SD = 0.2


def initialise(network: Network, scaling: Scaling, rng: np.random.Generator) -> None:
    """Set first weights, the same ones on every device.

    Parameters
    ----------
    network : Network
    scaling : Scaling
        Its rates are where the units' biases start.
    rng : Generator

    Notes
    -----
    The published network draws every weight from N(0, 0.02) and starts positions at zero. Here
    matrices have variance 1 / inputs, and what a block adds starts smaller in deeper networks.
    """
    published = network.form.published_blocks
    depth = sum(1 for name, _ in network.named_modules() if name.endswith("attention"))
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            sd = PUBLISHED_SD if published else module.in_features**-0.5
            if not published and (name.endswith("attention.out") or name.endswith("mlp.2")):
                sd /= (2 * max(depth, 1)) ** 0.5
            _draw(module.weight, sd, rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            _draw(module.weight, PUBLISHED_SD if published else EMBEDDING_SD, rng)
    for table in (network.spikes.place, network.spikes.past_place):
        nn.init.zeros_(table.weight)
    if network.heads.chained:
        rate = np.concatenate(list(scaling.rate.values()))
        share = torch.as_tensor(np.log(rate / rate.mean()), dtype=torch.float32)
        with torch.no_grad():
            network.heads.unit_bias.copy_(share)


def _draw(weight: torch.Tensor, sd: float, rng: np.random.Generator) -> None:
    value = torch.as_tensor(rng.normal(0, sd, weight.shape), dtype=weight.dtype)
    with torch.no_grad():
        weight.copy_(value)


def train(
    network: Network,
    rasters: Sequence[Raster],
    scaling: Scaling,
    config: Config,
    *,
    seed: int,
    kept: Checkpoint,
    stage: str = "training",
) -> History:
    """Train a network in place on the windows of all sessions.

    Parameters
    ----------
    network : Network
        On its device.
    rasters : sequence of Raster
        Of the training stretches; the last share of each chooses the epoch.
    scaling, config
        Of the door.
    seed : int
    kept : Checkpoint
    stage : str
        Name of its progress there.
    """
    device = next(network.parameters()).device
    if config.objective == "behavior" and config.label_share < 1:
        # what has no labels is of no use, neither to learn from nor to judge by
        rasters = [split_tail(r, 1 - config.label_share, 0)[0] for r in rasters]
    early, late = divided(rasters, config)
    labelled = config.objective == "behavior"
    # on a card passes are recorded, one for each size of batch
    rounded = device.type == "cuda" and processes.n_processes() == 1
    for module in network.modules():
        if isinstance(module, Block):
            module.compiled = rounded and config.training.compiled
    loader = Loader(
        early, scaling, config, device, seed=seed, labelled=labelled, rounded=rounded
    )  # fmt: skip

    def loss(batch: Batch) -> dict[str, torch.Tensor]:
        return network.losses(batch, config.objective, config.behavior_weight)

    def validate() -> float:
        return mean_loss(network, late, scaling, config)

    return fit_gradient(
        network, loss, loader, settings=config.training, n_batches=loader.n_batches, seed=seed,
        stage=stage, kept=kept, validate=validate if late else None, shared=True, steady=rounded,
    )  # fmt: skip


def divided(rasters: Sequence[Raster], config: Config) -> tuple[list[Raster], list[Raster]]:
    """Return what is trained on, and what chooses the epoch: the last share, after a gap."""
    if not config.validation_share:
        return list(rasters), []
    halves = [split_tail(r, config.validation_share, config.history_bins) for r in rasters]
    return [h[0] for h in halves], [h[1] for h in halves]


def tokens_an_epoch(rasters: Sequence[Raster], config: Config) -> int:
    """Return the tokens that an epoch goes over: spikes, and an end for each window."""
    early, _ = divided(rasters, config)
    windows = sum(len(cut_windows(r, config.window_bins, 0)) for r in early)
    return windows + sum(int(r.total().sum()) for r in early)


def mean_loss(
    network: Network, rasters: Sequence[Raster], scaling: Scaling, config: Config
) -> float:
    """Return the loss of all windows, alignment apart, each batch by its windows."""
    device = next(network.parameters()).device
    total, number = 0.0, 0
    for raster in rasters:
        windows = cut_windows(raster, config.window_bins, config.history_bins)
        for part, batch in in_batches(raster, windows, scaling, config, device):
            terms = network.losses(batch, config.objective, config.behavior_weight)
            value = sum(terms[n] * w for n, w in _judged(config) if n in terms)
            total += float(value) * len(part)
            number += len(part)
    return total / max(number, 1)


def _judged(config: Config) -> list[tuple[str, float]]:
    return [("spikes", 1.0), ("behavior", config.behavior_weight)]
