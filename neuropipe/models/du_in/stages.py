"""The three stages of a fit, one after another; each can be resumed where it was stopped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropipe.models.du_in.batches import (
    Bank,
    Batch,
    Index,
    in_turn,
    labelled,
    per_epoch,
    unlabelled,
)
from neuropipe.models.du_in.config import Common
from neuropipe.models.du_in.model import Classifier, MaskedNet, Sizes, UnitNet
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.history import History
from neuropipe.training.loop import fit_gradient

log = logging.getLogger(__name__)

Net = TypeVar("Net", bound=nn.Module)
POINTS = 64  # a code, that k-means looks at


@contextmanager
def seeded(seed: int, stream: str) -> Iterator[None]:
    """Draw torch's random numbers from a named stream inside the block, and restore them after."""
    digest = hashlib.sha256(f"{seed} {stream}".encode()).digest()
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(digest[:8], "little"))
        yield


@dataclass
class Fit:
    """What the stages share, and the course of those that are done.

    Attributes
    ----------
    config : Common
    pretraining : str
    sizes : Sizes
    bank : Bank
    windows, validating : Index
        Unlabelled windows to fit and to validate on.
    trials, judged : Index
        Likewise labelled trials.
    length, trial : int
        Samples of a window and of a trial.
    n_classes : int
    seed : int
    kept : Checkpoint
    history : dict of stage to History
    """

    config: Common
    pretraining: str
    sizes: Sizes
    bank: Bank
    windows: Index
    validating: Index
    trials: Index
    judged: Index
    length: int
    trial: int
    n_classes: int
    seed: int
    kept: Checkpoint
    history: dict[str, History] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the bank is."""
        return self.bank.value.device

    def build(self, make: Callable[[], Net], stage: str) -> Net:
        """Make a network with weights of its own stream, the same on every device."""
        with seeded(self.seed, f"weights-{stage}"):
            return make().to(self.device)

    def batches(self, stage: str, batch_size: int) -> Callable[[int], Iterator[Batch]]:
        """Return the unlabelled batches of a stage."""
        grid = self.sizes.patch if self.config.crop == "patch" else 1
        return unlabelled(
            self.bank, self.windows, self.length, batch_size, grid, seed=self.seed, stage=stage
        )


def fit_units(fit: Fit) -> UnitNet:
    """Stage 1: reconstruct windows, first as they are, then through codes.

    Notes
    -----
    From the first step on, as published, all tokens fall onto one code: reconstruction gives the
    encoder hardly any gradient while the commitment acts at full strength. So tokens pass as they
    are for `warm_epochs`, k-means places the codes on what was learned, and codes that lose their
    tokens come back.
    """
    c, stage = fit.config, fit.config.units
    net = fit.build(lambda: UnitNet(fit.sizes), "units")
    batch_size = min(stage.batch_size, len(fit.windows))
    n_batches = per_epoch(len(fit.windows), batch_size)

    def loss(quantised: bool) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
        def of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            present = fit.bank.present[batch["subject"]]
            return net.loss(
                batch["x"], batch["subject"], present, quantised=quantised, weight=c.commitment
            )

        return of

    def validate(quantised: bool) -> Callable[[], float]:
        def mean() -> float:
            total = sum(
                float(loss(quantised)(b)["reconstruction"]) * len(b["x"])
                for b in in_turn(fit.bank, fit.validating, fit.length)
            )
            return total / len(fit.validating)

        return mean

    codes = fit.pretraining != "points"
    warm = stage.model_copy(
        update={"epochs": c.warm_epochs if codes else c.warm_epochs + stage.epochs}
    )
    for name, settings, quantised in (("warm", warm, False), ("units", stage, True)):
        if settings.epochs == 0 or (quantised and not codes):
            continue
        if quantised:
            with seeded(fit.seed, "k-means"):
                net.codebook.settle(
                    some_points(net, fit), torch.Generator(fit.device).manual_seed(fit.seed)
                )
        fit.history[name] = fit_gradient(
            net, loss(quantised), fit.batches(name, batch_size), settings=settings,
            n_batches=n_batches, seed=fit.seed, stage=name, kept=fit.kept,
            validate=validate(quantised), shared=True, steady=True,
        )  # fmt: skip
    return net


@torch.no_grad()
def some_points(net: UnitNet, fit: Fit) -> Tensor:
    """Return the points of training windows, evenly spread, at most `POINTS` a code."""
    net.eval()
    wanted = POINTS * fit.sizes.n_codes
    n_tokens = fit.length // fit.sizes.patch
    step = max(1, len(fit.windows) * n_tokens // wanted)
    keep = fit.windows.of(torch.arange(0, len(fit.windows), step).numpy())
    found = [
        net.points(b["x"], b["subject"]).flatten(0, 1) for b in in_turn(fit.bank, keep, fit.length)
    ]
    return torch.cat(found)


@torch.no_grad()
def code_use(net: UnitNet, bank: Bank, index: Index, length: int) -> Tensor:
    """Return how often each code is used, (code,) int64."""
    net.eval()
    use = torch.zeros(len(net.codebook.code), dtype=torch.int64, device=bank.value.device)
    for b in in_turn(bank, index, length):
        code = net.codes(b["x"], b["subject"]).flatten()
        use += torch.bincount(code, minlength=len(use))
    return use


def fit_masked(fit: Fit, units: UnitNet) -> MaskedNet:
    """Stage 2: predict the codes of hidden tokens."""
    stage = fit.config.masked
    points = fit.pretraining == "points"
    net = fit.build(lambda: MaskedNet(fit.sizes, points=points), "masked")
    if fit.config.masked_start == "units":
        net.encoder.load_state_dict(units.encoder.state_dict())
    units.eval()
    batch_size = min(stage.batch_size, len(fit.windows))
    target = units.points if points else units.codes

    def loss(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            want = target(batch["x"], batch["subject"])
        return net.loss(batch["x"], batch["subject"], want)

    fit.history["masked"] = fit_gradient(
        net, loss, fit.batches("masked", batch_size), settings=stage,
        n_batches=per_epoch(len(fit.windows), batch_size), seed=fit.seed, stage="masked",
        kept=fit.kept, validate=lambda: masked_scores(fit, net, target)["loss"], shared=True,
        steady=True,
    )  # fmt: skip
    return net


@torch.no_grad()
def masked_scores(
    fit: Fit, net: MaskedNet, target: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, float]:
    """Return mean loss and accuracy over the validating windows, every second token hidden."""
    net.eval()
    total: dict[str, float] = {}
    for b in in_turn(fit.bank, fit.validating, fit.length):
        want = target(b["x"], b["subject"])
        mask = torch.arange(want.shape[1], device=fit.device).remainder(2).bool()
        terms = net.loss(b["x"], b["subject"], want, mask.expand(want.shape[:2]))
        for name, value in terms.items():
            total[name] = total.get(name, 0.0) + float(value) * len(b["x"])
    return {name: value / len(fit.validating) for name, value in total.items()}


def fit_decoder(fit: Fit, units: UnitNet | None, masked: MaskedNet | None) -> Classifier:
    """Stage 3: tell trials apart, from what was learned before."""
    c, stage = fit.config, fit.config.decode
    quantised = fit.pretraining == "quantised"
    net = fit.build(
        lambda: Classifier(
            fit.sizes, fit.trial // fit.sizes.patch, fit.n_classes, quantised=quantised,
            sigmoid=c.sigmoid,
        ),
        "decode",
    )  # fmt: skip
    before = masked or units
    if before is not None:
        net.encoder.load_state_dict(before.encoder.state_dict())
    if net.codebook is not None and units is not None:
        net.codebook.load_state_dict(units.codebook.state_dict())
    if c.tune == "head":
        net.encoder.requires_grad_(False)
        if net.codebook is not None:
            net.codebook.requires_grad_(False)
    batch_size = min(stage.batch_size, len(fit.trials))

    def loss(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if c.tune == "head":
            net.encoder.eval()
        return net.loss(batch["x"], batch["subject"], batch["y"], c.label_smoothing)

    def judge() -> float:
        return float(trial_losses(net, fit.bank, fit.judged, fit.trial).mean())

    fit.history["decode"] = fit_gradient(
        net, loss,
        labelled(
            fit.bank, fit.trials, fit.trial, batch_size, round(c.shift_share * fit.trial),
            seed=fit.seed, stage="decode",
        ),
        settings=stage, n_batches=per_epoch(len(fit.trials), batch_size), seed=fit.seed,
        stage="decode", kept=fit.kept,
        validate=judge if len(fit.judged) else None, shared=True, steady=True,
    )  # fmt: skip
    return net


@torch.no_grad()
def trial_logits(net: Classifier, bank: Bank, index: Index, trial: int) -> Tensor:
    """Return the logits of trials, (trial, class) float32."""
    net.eval()
    found = [net(b["x"], b["subject"]).float() for b in in_turn(bank, index, trial)]
    return torch.cat(found) if found else torch.zeros(0, net.n_classes)


def trial_losses(net: Classifier, bank: Bank, index: Index, trial: int) -> Tensor:
    """Return the cross-entropy of each trial, nats."""
    y = torch.as_tensor(index.y).to(bank.value.device)
    return F.cross_entropy(trial_logits(net, bank, index, trial), y, reduction="none")
