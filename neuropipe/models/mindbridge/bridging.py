"""From patterns to a fitted bridge: the closed start, how long training helps, the training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from neuropipe.models.mindbridge import start
from neuropipe.models.mindbridge.batches import (
    Patterns,
    Targets,
    epoch_batches,
    n_batches,
    targets_of,
)
from neuropipe.models.mindbridge.config import Config
from neuropipe.models.mindbridge.model import Bridge, Form
from neuropipe.models.mindbridge.objective import objective
from neuropipe.runtime import generator
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.loop import fit_gradient
from neuropipe.training.settings import Training

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A bridge and what is needed to use it and to add subjects to it.

    Attributes
    ----------
    bridge : Bridge
        In evaluation mode.
    names : tuple of str
        Its subjects, in order.
    n_voxels : tuple of int
        Of each, before pooling.
    mean, length : mapping of head to (feature,) and float
        How embeddings were centred.
    components : Components or None
        Of the training embeddings, all heads side by side; None for pooled aggregations.
    power : tuple of Power
        Of each subject.
    started : tuple of str
        Closed form that each subject started from.
    course : Dataset
        ``objective (step)`` and more.
    """

    bridge: Bridge
    names: tuple[str, ...]
    n_voxels: tuple[int, ...]
    mean: Mapping[str, Tensor]
    length: Mapping[str, float]
    components: start.Components | None
    power: tuple[start.Power, ...]
    started: tuple[str, ...]
    course: xr.Dataset

    def on(self, device: torch.device) -> Fitted:
        """Return it on a device; the bridge itself is moved."""
        known = self.components
        return replace(
            self,
            bridge=self.bridge.to(device),
            mean={head: t.to(device) for head, t in self.mean.items()},
            components=known and start.Components(*(t.to(device) for t in known)),
            power=tuple(p._replace(value=p.value.to(device)) for p in self.power),
        )

    def predict(self, x: Tensor, subject: str) -> dict[str, Tensor]:
        """Return embeddings (sample, feature) from patterns; see `embeddings`."""
        s = self.names.index(subject)
        return self.embeddings(self.bridge.predict(self.bridge.encode(x, s)))

    def embeddings(self, guess: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the heads say as embeddings: of length 1 about the training mean.

        A direction, scaled to the mean length of training embeddings about their mean: its length
        says nothing about confidence.
        """
        return {
            name: self.mean[name] + self.length[name] * nn.functional.normalize(p, dim=1)
            for name, p in guess.items()
        }


def form_of(config: Config, unit: Mapping[str, Tensor], common: int) -> Form:
    """Return the sizes of a network for these embeddings."""
    c = config
    text = unit["text"].shape[1] if "text" in unit else 0
    return Form(
        c.aggregation, common, c.hidden, c.adapter, c.n_blocks, c.embedder_dropout, c.block_dropout,
        unit["image"].shape[1], text, c.head_rank, c.mode != "single", c.mode == "naive",
    )  # fmt: skip


def initialised(form: Form, n_voxels: Sequence[int], *, seed: int, stage: str) -> Bridge:
    """Return a network whose random start is a function of seed and stage."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, f"weights-{stage}").integers(2**31)))
        return Bridge(form, n_voxels)


def started(
    data: Sequence[Patterns], unit: Mapping[str, Tensor], config: Config, *, seed: int, stage: str,
    known: Sequence[str] | None = None,
) -> Fitted:  # fmt: skip
    """Return a bridge that is fitted in closed form, or random where the configuration says so."""
    rows = torch.cat([p.row for p in data]).unique()
    targets = targets_of(unit, rows, config.center)
    names = tuple(p.name for p in data)
    n_voxels = tuple(p.n_voxels for p in data)
    device = rows.device
    if config.aggregation != "linear":
        bridge = initialised(form_of(config, unit, config.common_size), n_voxels, seed=seed,
                             stage=stage)  # fmt: skip
        return Fitted(bridge.to(device), names, n_voxels, targets.mean, targets.length, None, (),
                      ("random",) * len(names), xr.Dataset())  # fmt: skip
    joint = torch.cat(list(unit.values()), 1)
    found = start.components(joint[rows], config.common_size)
    form = form_of(config, unit, len(found.sd))
    bridge = initialised(form, n_voxels, seed=seed, stage=stage).to(device)
    if config.start == ("random",):
        return Fitted(bridge, names, n_voxels, targets.mean, targets.length, None, (),
                      ("random",) * len(names), xr.Dataset())  # fmt: skip
    set_base(bridge, found, targets)
    pairs = [(found.of(joint[p.row].double()), p.mean.double()) for p in data]
    power = tuple(start.response_power(z, x - x.mean(0)) for z, x in pairs)
    alone = config.mode == "single"
    others = [[] if alone else [q for n, q in enumerate(power) if n != s] for s in range(len(data))]
    kinds = known or start.choices(
        [
            start.compared(z, x, found.sd, rest, config.start)
            for (z, x), rest in zip(pairs, others, strict=True)
        ]
    )
    for s, ((z, x), rest) in enumerate(zip(pairs, others, strict=True)):
        set_linear(bridge, s, start.fit_linear(z, x, rest, kinds[s]))
    log.info("mindbridge: %s: subjects start from %s", stage, dict(zip(names, kinds, strict=True)))
    return Fitted(bridge.eval(), names, n_voxels, targets.mean, targets.length, found, power,
                  tuple(kinds), xr.Dataset())  # fmt: skip


@torch.no_grad()
def set_base(bridge: Bridge, found: start.Components, targets: Targets) -> None:
    """Let the common code be the whitened components, and the heads' base their inverse.

    Entries of an embedding of length 1 are as small as 1 / sqrt(features), so they are stretched
    to about 1, where Adam's steps are small beside them.
    """
    at = 0
    n_features = len(found.mean)
    for name, module in bridge.base.items():
        layer = cast(nn.Linear, module)
        n = layer.out_features
        part = slice(at, at + n)
        scale = n_features**0.5
        layer.weight.copy_(found.basis[part] * found.sd * scale)
        layer.bias.copy_((found.mean[part] - targets.mean[name]) * scale)
        at += n


@torch.no_grad()
def set_linear(bridge: Bridge, s: int, linear: start.Linear) -> None:
    """Let one subject's own maps be the closed forms."""
    own = bridge.subject(s)
    if own.gather is not None:
        own.gather.weight.copy_(linear.decode.T)
        own.gather.bias.copy_(linear.decode_offset)
    if own.spread is not None:
        own.spread.weight.copy_(linear.encode.T)
        own.spread.bias.copy_(linear.encode_offset)


def rank_loss(
    bridge: Bridge, data: Sequence[Patterns], targets: Targets, numbers: Sequence[int]
) -> float:
    """Return the mean log rank of the data's stimuli, over subjects, heads and directions.

    Parameters
    ----------
    numbers : sequence of int
        Of the data's subjects in the bridge.
    """
    ranks = []
    for s, p in zip(numbers, data, strict=True):
        guess = bridge.predict(bridge.encode(p.mean, s))
        ranks += [start.mean_log_rank(g, targets.value[n][p.row]) for n, g in guess.items()]
    return float(np.mean(ranks))


def held_rows(data: Sequence[Patterns], share: float, *, seed: int, stage: str) -> Tensor | None:
    """Return the rows of stimuli that are held out inside the training data, or None.

    A stimulus is held out for all subjects. None where fewer than four stimuli would be.
    """
    rows = torch.cat([p.row for p in data]).unique()
    n = round(share * len(rows))
    if n < 4:
        return None
    order = generator(seed, f"held-{stage}").permutation(len(rows))
    return rows[torch.as_tensor(order[:n], device=rows.device)]


def parted(data: Sequence[Patterns], held: Tensor) -> tuple[list[Patterns], list[Patterns]] | None:
    """Return the data without and with the held rows only; None where a subject has too few."""
    train = [p.only(~torch.isin(p.row, held)) for p in data]
    test = [p.only(torch.isin(p.row, held)) for p in data]
    if min(len(p.row) for p in train) < 3 or min(len(p.row) for p in test) < 2:
        return None
    return train, test


def train(
    fitted: Fitted, data: Sequence[Patterns], unit: Mapping[str, Tensor], config: Config,
    training: Training, *, seed: int, stage: str, kept: Checkpoint,
    test: Sequence[Patterns] | None = None, into: int | None = None,
) -> tuple[Fitted, int]:  # fmt: skip
    """Train a bridge in place.

    Parameters
    ----------
    data : sequence of Patterns
        Of subjects of the bridge.
    test : sequence of Patterns, optional
        Held-out stimuli of training data: the best epoch is kept; that before the first counts.
    into : int, optional
        Which of the data's subjects is new, and learns alone.

    Returns
    -------
    fitted : Fitted
    n_epochs : int
        That helped, 0 for none.
    """
    bridge = fitted.bridge
    members = [fitted.names.index(p.name) for p in data]
    value = {n: nn.functional.normalize(u - fitted.mean[n], dim=1) for n, u in unit.items()}
    targets = Targets(value, fitted.mean, fitted.length)
    judged = list(test or [])

    def validate() -> float:
        own = [fitted.names.index(p.name) for p in judged]
        return rank_loss(bridge, judged, targets, own)

    frozen = {k: v.detach().clone() for k, v in bridge.state_dict().items()}
    before = validate_now(bridge, validate) if test is not None else float("nan")
    n, _ = n_batches(data, training.batch_size, into)
    history = fit_gradient(
        bridge,
        objective(bridge, config, training.epochs, members, into),
        lambda epoch: epoch_batches(
            data, targets, training.batch_size, config.repeats, seed=seed, stage=stage,
            epoch=epoch, into=into,
        ),
        settings=training, n_batches=n, seed=seed, stage=stage, kept=kept,
        validate=validate if test is not None else None, shared=True,
        groups=[{"params": [p for p in bridge.parameters() if p.requires_grad]}],
    )  # fmt: skip
    course = history.dataset()
    if test is None:
        return replace(fitted, course=course), training.epochs
    best = min(history.validation)
    log.info("mindbridge: %s: held-out log rank %.4g at the start, %.4g after %d epochs",
             stage, before, best, history.best + 1)  # fmt: skip
    course.attrs["validation_before"] = before
    if best < before:
        return replace(fitted, course=course), history.best + 1
    bridge.load_state_dict(frozen)
    return replace(fitted, course=course), 0


def validate_now(bridge: Bridge, validate) -> float:
    """Validate once, outside of training."""
    bridge.eval()
    with torch.no_grad():
        return float(validate())


def fit_bridge(
    data: Sequence[Patterns], unit: Mapping[str, Tensor], config: Config, *, seed: int, stage: str,
    kept: Checkpoint,
) -> Fitted:  # fmt: skip
    """Fit a bridge for some subjects: how long training helps is found on held-out stimuli.

    The number of epochs is found with a share of the training stimuli held out; start and training
    are then repeated on all of them for so many epochs.
    """
    held = held_rows(data, config.validation_share, seed=seed, stage=stage)
    parts = parted(data, held) if held is not None else None
    training, course, known = config.training, None, None
    if parts is not None:
        tried = started(parts[0], unit, config, seed=seed, stage=stage)
        tried, n_epochs = train(
            tried, parts[0], unit, config, training, seed=seed, stage=f"{stage}-length", kept=kept,
            test=parts[1],
        )  # fmt: skip
        course, known = tried.course, tried.started
        training = training.model_copy(update={"epochs": max(n_epochs, 1)})
        if n_epochs == 0 and config.aggregation == "linear" and config.start != ("random",):
            fitted = started(data, unit, config, seed=seed, stage=stage, known=known)
            return replace(fitted, bridge=fitted.bridge.eval(), course=chosen(course, 0))
    fitted = started(data, unit, config, seed=seed, stage=stage, known=known)
    fitted, n_epochs = train(
        fitted, data, unit, config, training, seed=seed, stage=stage, kept=kept
    )
    fitted.bridge.eval()
    own = fitted.course if course is None else course
    return replace(fitted, course=chosen(own, n_epochs))


def chosen(course: xr.Dataset, n_epochs: int) -> xr.Dataset:
    """Note how many epochs were used; stopping where held-out stimuli say so is convergence."""
    out = course.copy()
    out.attrs["n_epochs"] = n_epochs
    if "validation" in out:
        out.attrs["converged"] = 1
    return out
