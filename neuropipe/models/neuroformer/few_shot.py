"""What pretraining is worth where labels are few: an experiment inside the training data."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from neuropipe.batching.decoding import decoding_scores
from neuropipe.batching.raster import Raster, split_tail
from neuropipe.batching.tokens import window_mean
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.fitted import Fitted
from neuropipe.models.neuroformer.model import Network
from neuropipe.models.neuroformer.scaling import Scaling, few_labels, scaling_of, sizes_of
from neuropipe.models.neuroformer.training import initialise, train
from neuropipe.models.neuroformer.transfer import take_weights
from neuropipe.runtime import generator
from neuropipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)

STARTS = ("pretrained", "from scratch")
HELD_SHARE = 0.25  # of the training data, the last part, that decoders are judged on
RATE_SHARE = 0.5  # of the schedule's rate, for either start


def few_shot_curve(
    rasters: Sequence[Raster],
    config: Config,
    *,
    seed: int,
    device: torch.device,
    kept: Checkpoint,
) -> xr.Dataset:
    """Decode behaviour after few labels, with a trunk that has seen spikes alone and without.

    Parameters
    ----------
    rasters : sequence of Raster
        Of the training stretches; the last quarter of each is set aside with a gap before it, and
        neither its spikes nor its labels are learned from.
    config : Config
        `few_shot` names the shares of labels, from the start of what is left.
    seed : int
        Of weights, batches and shifts.
    device : device
    kept : Checkpoint

    Returns
    -------
    Dataset
        ``few_shot_r (start, label_share)``, Pearson's r of the set-aside windows, mean over
        sessions and signals, and ``few_shot_null_r``, the 95th percentile of r under circular
        shifts. Both starts take the same number of steps on the same batches.
    """
    halves = [split_tail(r, HELD_SHARE, config.history_bins) for r in rasters]
    early, late = [h[0] for h in halves], [h[1] for h in halves]
    alone = config.model_copy(update={"objective": "spikes", "few_shot": ()})
    scaling = scaling_of(early, alone)
    trunk = _fresh(alone, scaling, seed, device)
    train(trunk, early, scaling, alone, seed=seed, kept=kept, stage="few-shot-pretraining")
    weights = {k: v.cpu() for k, v in trunk.state_dict().items()}
    shares = sorted(config.few_shot)
    found = np.full((2, len(STARTS), len(shares)), np.nan)
    for column, share in enumerate(shares):
        own = _with_labels(config, early, share)
        few = [few_labels(r, own) for r in early]
        scales = scaling_of(few, own)
        for row, start in enumerate(STARTS):
            network = _fresh(own, scales, seed, torch.device("cpu"))
            if start == "pretrained":
                take_weights(network, scales, weights, scaling, same_targets=False)
            network.to(device)
            stage = f"few-shot-{share:g}-{start.replace(' ', '-')}"
            train(network, few, scales, own, seed=seed, kept=kept, stage=stage)
            found[:, row, column] = _judged(network.eval(), late, scales, own, seed)
        said = dict(zip(STARTS, found[0, :, column].round(3).tolist(), strict=True))
        log.info("neuroformer: %g of the labels: r %s", share, said)
    dims = ("start", "label_share")
    return xr.Dataset(
        {
            "few_shot_r": (dims, found[0], {"units": "1"}),
            "few_shot_null_r": (dims, found[1], {"units": "1"}),
        },
        {
            "start": ("start", np.array(STARTS, dtype=object), {"units": ""}),
            "label_share": ("label_share", np.array(shares), {"units": "1"}),
        },
    )


def _fresh(config: Config, scaling: Scaling, seed: int, device: torch.device) -> Network:
    network = Network.blank(config.form, sizes_of(scaling, config))
    initialise(network, scaling, generator(seed, "init-few-shot"))
    return network.to(device)


def _with_labels(config: Config, early: Sequence[Raster], share: float) -> Config:
    """Return the configuration of a decoder from a share of the labels, by its number of steps."""
    schedule = config.training
    windows = share * sum(r.n_bins for r in early) / config.window_bins
    epochs = max(round(config.few_shot_steps / max(windows // schedule.batch_size, 1)), 1)
    training = schedule.model_copy(
        update={
            "epochs": epochs, "patience": None,
            "learning_rate": RATE_SHARE * schedule.learning_rate,
        }
    )  # fmt: skip
    return config.model_copy(
        update={
            "objective": "behavior", "label_share": share, "validation_share": 0.0,
            "few_shot": (), "training": training,
        }
    )  # fmt: skip


def _judged(
    network: Network, late: Sequence[Raster], scaling: Scaling, config: Config, seed: int
) -> tuple[float, float]:
    """Return r of what was set aside and that of chance, means over sessions."""
    fitted = Fitted(config, network, scaling, 1, {}, {})
    channel = len(config.covariates) + np.arange(len(config.targets))
    out = []
    for raster in late:
        found = fitted.run(raster, rates=False)
        scores = decoding_scores(
            window_mean(raster, found.windows, channel), np.asarray(found.decoded),
            rng=generator(seed, "few-shot-null"), n_shuffles=config.n_shuffles,
        )  # fmt: skip
        out.append((scores["decoding_r"], scores["decoding_null_r"]))
    r, null = np.mean(out, 0)
    return float(r), float(null)
