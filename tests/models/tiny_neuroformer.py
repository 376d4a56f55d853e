"""A small session, and a small untrained network for it."""

import numpy as np
import torch

from neuropipe.batching.raster import Movie, Raster
from neuropipe.batching.tokens import cut_windows
from neuropipe.models.neuroformer.batches import make_batch
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.model import Network
from neuropipe.models.neuroformer.scaling import Scaling, scaling_of, sizes_of
from neuropipe.models.neuroformer.training import initialise
from neuropipe.runtime import generator

CPU = torch.device("cpu")
SMALL = {
    "window_bins": 3, "history_bins": 4, "width": 16, "n_heads": 2, "layers_past": 1,
    "layers_state": 1, "dropout": 0.0, "training": {"batch_size": 16, "epochs": 2},
}  # fmt: skip
SEEING = {"stimulus": "stimulus/bar", "covariates": ("speed",), "n_frames": 2, "patch": (2, 2)}


def tiny_raster(n_bins: int = 60, n_units: int = 4, seed: int = 0, movie: bool = True) -> Raster:
    """Counts around 0.4 a bin, some of them 2, in two stretches."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.4, (n_bins, n_units))
    bins, units = np.nonzero(counts)
    number = counts[bins, units]
    signal = rng.normal(size=(n_bins, 2))
    onset = np.arange(0, n_bins, 4) * 0.01
    frames = Movie(rng.normal(size=(len(onset), 4, 6)).astype(np.float32), onset)
    cut = n_bins // 2 + 1
    return Raster(
        "s/a", np.arange(n_units), 0.01, (np.arange(n_bins) + 0.5) * 0.01, np.array([0, cut]),
        np.array([cut, n_bins]), np.repeat(bins, number), np.repeat(units, number),
        ("speed", "turn"), ("m/s", "rad"), signal, frames if movie else None,
    )  # fmt: skip


def tiny(seed: int = 0, **settings) -> tuple[Network, Raster, Scaling, Config]:
    """Return an untrained network in evaluation mode, its session, scales and settings."""
    config = Config(**{**SMALL, **settings})
    raster = tiny_raster(movie=config.stimulus is not None)
    n = len(config.covariates) + len(config.targets)
    raster = Raster(**{**vars(raster), "channels": raster.channels[:n],
                       "channel_units": raster.channel_units[:n],
                       "signal": raster.signal[:, :n]})  # fmt: skip
    scaling = scaling_of([raster], config)
    network = Network(config.form, sizes_of(scaling, config))
    initialise(network, scaling, generator(seed, "init"))
    return network.eval(), raster, scaling, config


def batch_of(raster: Raster, scaling: Scaling, config: Config, which=None) -> dict:
    """Return some windows of a session, all by default, as a batch."""
    windows = cut_windows(raster, config.window_bins, config.history_bins)
    windows = windows if which is None else windows.take(np.asarray(which))
    return make_batch(raster, windows, scaling, config, CPU)
