"""From data and a configuration to a trained network: starts, numbers of latents, the fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuropipe.errors import DataError
from neuropipe.models.mm_gpvae.align import align, turnable
from neuropipe.models.mm_gpvae.batches import in_dtype, shuffled
from neuropipe.models.mm_gpvae.config import Config
from neuropipe.models.mm_gpvae.factors import start_from_factors
from neuropipe.models.mm_gpvae.model import MMGPVAENetwork, Start
from neuropipe.models.mm_gpvae.predict import held_out_bound
from neuropipe.runtime import float_policy, generator
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.history import History
from neuropipe.training.loop import fit_gradient
from neuropipe.training.settings import Training

log = logging.getLogger(__name__)

Numbers = tuple[int, int, int]
Tried = tuple[tuple[Numbers, ...], np.ndarray]
LINE_RATE = 0.05  # of the encoder's straight line, which starts where it should be
INNER_HELD = 0.25  # of the training pieces, to choose numbers of latents by


def train(
    config: Config, start: Start, data: Mapping[str, Tensor], *, seed: int, kept: Checkpoint
) -> tuple[MMGPVAENetwork, History, Tried | None]:
    """Choose the numbers of latents where several are given, and fit.

    Parameters
    ----------
    config : Config
    start : Start
    data : mapping
        Pieces of the training windows, on the device of the fit.
    seed : int
        Of starts, batches, held-out pieces and draws.
    kept : Checkpoint

    Returns
    -------
    net : MMGPVAENetwork
    history : History
        Of the last stage.
    tried : tuple of numbers and their held-out bounds, nats/bin, or None

    Raises
    ------
    DataError
        If a choice is asked for and there is one piece only.
    """
    run = _Run(config, start, seed, kept)
    numbers, tried = run.choose(data)
    net, history = run.fit(numbers, data, "fit")
    return net, history, tried


class _Run:
    """What all stages of one fit have in common."""

    def __init__(self, config: Config, start: Start, seed: int, kept: Checkpoint) -> None:
        self.config, self.start, self.seed, self.kept = config, start, seed, kept

    def build(self, numbers: Numbers, number: int) -> MMGPVAENetwork:
        """Return a network with random weights of its own."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(self.seed, f"network-{number}").integers(2**62)))
            return MMGPVAENetwork(self.config, numbers, self.start)

    def shorter(self, share: float) -> Training:
        """Return the schedule of a share of the epochs, at a constant rate."""
        full = self.config.training
        epochs = max(1, round(share * full.epochs))
        return full.model_copy(update={"epochs": epochs, "final_share": 1.0, "patience": None})

    def aligned(
        self, numbers: Numbers, number: int, data: Mapping[str, Tensor], stage: str
    ) -> MMGPVAENetwork:
        """Return a network that has learned neural activity alone, its latents turned."""
        net = self.build(numbers, number).to(data["n_bins"].device)
        start_from_factors(net, data)
        c = self.config
        if c.align_share == 0 or not turnable(net):
            return net
        alone = {name: x for name, x in data.items() if not name.startswith("behavior")}
        settings = self.shorter(c.align_share)
        batches, n_batches = shuffled(alone, settings.batch_size, self.seed, stage)
        fit_gradient(
            net, net.loss, batches, settings=settings, n_batches=n_batches, seed=self.seed,
            stage=stage, kept=self.kept, groups=groups(net), shared=True, steady=True,
        )  # fmt: skip
        told = align(net, data)
        log.info("mm_gpvae: %s: behaviour tells %s of its latents", stage, told)
        return net

    def started(self, numbers: Numbers, data: Mapping[str, Tensor], stage: str) -> MMGPVAENetwork:
        """Return the best of several random starts, each trained for some epochs."""
        c = self.config
        nets = [self.aligned(numbers, k, data, f"{stage}-neural-{k}") for k in range(c.n_restarts)]
        if c.n_restarts == 1:
            return nets[0]
        short = self.shorter(c.screen_share)
        found = []
        for k, net in enumerate(nets):
            name = f"{stage}-start-{k}"
            batches, n_batches = shuffled(data, short.batch_size, self.seed, name)
            course = fit_gradient(
                net, net.loss, batches, settings=short, n_batches=n_batches, seed=self.seed,
                stage=name, kept=self.kept, groups=groups(net), shared=True, steady=True,
            )  # fmt: skip
            found.append(course.terms["loss"][-1])
        log.info("mm_gpvae: %s: losses of the starts %s", stage, np.round(found, 3).tolist())
        return nets[int(np.argmin(found))]

    def fit(
        self, numbers: Numbers, data: Mapping[str, Tensor], stage: str
    ) -> tuple[MMGPVAENetwork, History]:
        """Train one network on all pieces but those that validate."""
        c = self.config
        taught, held = divided(data, c.validation_share, self.seed, f"{stage}-validation")
        net = self.started(numbers, taught, stage)
        batches, n_batches = shuffled(taught, c.training.batch_size, self.seed, stage)
        history = fit_gradient(
            net, net.loss, batches, settings=c.training, n_batches=n_batches, seed=self.seed,
            stage=stage, kept=self.kept, groups=groups(net), shared=True, steady=True,
            validate=(lambda: float(net.loss(held)["loss"])) if held is not None else None,
        )  # fmt: skip
        return net, history

    def choose(self, data: Mapping[str, Tensor]) -> tuple[Numbers, Tried | None]:
        """Choose the numbers of latents by the held-out bound inside the training pieces."""
        candidates = self.config.candidates
        if len(candidates) == 1:
            return candidates[0], None
        taught, held = divided(data, INNER_HELD, self.seed, "try")
        if held is None:
            raise DataError(
                "mm_gpvae: choosing the numbers of latents needs at least 2 training windows or "
                "pieces of max_bins, found 1; set window_s in the split"
            )
        scores = []
        for numbers in candidates:
            stage = "try-" + "-".join(map(str, numbers))
            net, _ = self.fit(numbers, taught, stage)
            dtype = float_policy(net.basis.device)
            scores.append(held_out_bound(net.eval().to(dtype), in_dtype(held, dtype)))
            log.info("mm_gpvae: %s: held-out bound %.5g nats/bin", stage, scores[-1])
        return candidates[int(np.argmax(scores))], (candidates, np.array(scores))


def groups(net: MMGPVAENetwork) -> list[dict[str, Any]]:
    """Return the parameters by their learning rate."""
    c = net.config
    scale = {"behavior": c.behavior_rate_scale, "encoder": c.encoder_rate_scale}
    named: dict[float, list[Any]] = {}
    for name, parameter in net.named_parameters():
        behavioral = name.startswith(("behavior.", "maps.behavior"))
        encoding = name.startswith(("neural.encoder", "maps.neural"))
        part = "behavior" if behavioral else "encoder" if encoding else ""
        # the authors learn length scales with the networks of behaviour
        part = "behavior" if name == "raw_length" and c.scales == "raw" else part
        rate = scale.get(part, 1.0) * (LINE_RATE if ".line." in name else 1.0)
        named.setdefault(rate, []).append(parameter)
    return [{"params": params, "lr_scale": value} for value, params in named.items()]


def divided(
    data: Mapping[str, Tensor], share: float, seed: int, stream: str
) -> tuple[Mapping[str, Tensor], dict[str, Tensor] | None]:
    """Return pieces to train on, and a random share of them to judge by; none of less than two."""
    n = len(data["n_bins"])
    n_held = min(round(share * n) or int(share > 0), n - 1)
    if n_held == 0:
        return data, None
    order = torch.as_tensor(generator(seed, stream).permutation(n), device=data["n_bins"].device)
    held, taught = order[:n_held], order[n_held:].sort().values
    return {k: x[taught] for k, x in data.items()}, {k: x[held] for k, x in data.items()}
