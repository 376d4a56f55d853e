"""The one loop that trains every network: steps, schedule, validation, checkpoints."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuropipe.errors import NeuropipeError
from neuropipe.training import processes
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.history import History
from neuropipe.training.precision import bfloat16_products, tf32_products
from neuropipe.training.recorded import Recorded
from neuropipe.training.settings import Training

log = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]
LINES = 50  # of progress in the log, at most about so many a stage
TRIES = 3  # at halving the rate after a loss that was not finite


def fit_gradient(
    module: nn.Module,
    loss: Callable[[Batch], Mapping[str, Tensor]],
    batches: Callable[[int], Iterable[Batch]],
    *,
    settings: Training,
    n_batches: int,
    seed: int,
    stage: str,
    kept: Checkpoint,
    validate: Callable[[], float] | None = None,
    groups: Sequence[Mapping[str, Any]] | None = None,
    shared: bool = False,
    steady: bool = False,
) -> History:
    """Train a network in place with Adam, or go on exactly where a checkpoint stopped.

    Parameters
    ----------
    module : nn.Module
        On its device; its weights and buffers are changed.
    loss : callable
        Of a batch: named scalars, among them ``loss``, which is differentiated; the others are
        averaged into the history.
    batches : callable
        Of the number of an epoch: its batches, on the module's device, always the same ones.
    settings : Training
        The schedule.
    n_batches : int
        Batches of an epoch.
    seed : int
        Of the random numbers inside a step: torch's generator is seeded for each step from seed,
        stage and step, and is afterwards as before.
    stage : str
        Name under which the progress is kept.
    kept : Checkpoint
        Where it is kept; a finished stage is loaded instead of run.
    validate : callable, optional
        Called after each epoch without gradients, the module in evaluation mode; lower is
        better, and the best weights are the ones that stay.
    groups : sequence of mappings, optional
        Parts of the weights with ``params`` and perhaps ``lr_scale`` and ``weight_decay``. All
        weights that take a gradient otherwise.
    shared : bool
        Whether several processes may share a batch: `batches` and `loss` are then called inside of
        `processes.together`, take this process's share of the examples and return its part of
        each term. Otherwise each process does the whole work.
    steady : bool
        Whether `loss` does the same for all batches of one shape and reads nothing back from the
        device. On a card passes are then recorded and replayed (`recorded`), which spares the time
        of their launches.

    Returns
    -------
    History

    Raises
    ------
    NeuropipeError
        If the loss is not finite, and is not after three tries at half the rate from the last good
        epoch on; what the checkpoint holds is of before.
    ValueError
        If an epoch has another number of batches than `n_batches`.

    Notes
    -----
    Same seed, same machine, same numbers, interrupted or not: batches are a function of the epoch,
    random numbers of the step, and weights, moments and sums are kept. Several processes that share
    batches come to the same numbers up to rounding, dropout apart, whose draws are each one's own.
    """
    with processes.together(shared):
        run = _Run(module, settings, n_batches, seed, stage, kept, groups)
        if run.finished:
            return run.history
        run.prepare(processes.parallel(module, loss), steady=steady)
    devices = sorted({p.device.index for p in module.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices):
        while run.epoch < settings.epochs and not run.out_of_patience():
            with processes.together(shared):
                run.whole_epoch(batches)
            if validate is not None:
                run.judge(validate)
    run.finish(judged=validate is not None)
    return run.history


class NotFinite(NeuropipeError):
    """The loss is infinite or not a number."""


class _Run:
    """The state of a stage that is being trained."""

    def __init__(
        self,
        module: nn.Module,
        settings: Training,
        n_batches: int,
        seed: int,
        stage: str,
        kept: Checkpoint,
        groups: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        self.module, self.settings, self.n_batches = module, settings, n_batches
        self.seed, self.stage, self.kept = seed, stage, kept
        self.weights = [p for p in module.parameters() if p.requires_grad]
        self.on_card = all(p.is_cuda for p in self.weights)
        self.optimizer = torch.optim.AdamW(
            _decayed(groups or [{"params": self.weights}], settings.weight_decay),
            lr=settings.learning_rate,
            betas=settings.betas,
            fused=self.on_card,  # one launch, and each moment is read and written once
        )
        self.history = History()
        self.epoch = 0
        self.step = 0
        self.sums: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] | None = None
        self.waited = 0
        self._since = time.monotonic()
        self.finished = self._resume()

    def prepare(self, loss: Callable[[Batch], Mapping[str, Tensor]], *, steady: bool) -> None:
        """Take the loss; the passes of a steady one are recorded where there is a card."""
        self.loss = loss
        alone = steady and processes.count() == 1 and self.settings.accumulate == 1
        recorded = Recorded(self.weights, lambda batch: self._pass(batch, 1.0))
        self.recorded = recorded if alone and self.on_card else None

    def whole_epoch(self, batches: Callable[[int], Iterable]) -> None:
        """Take an epoch; where its loss is not finite, take it again from its start, slower."""
        module, optimizer = copy.deepcopy([self.module.state_dict(), self.optimizer.state_dict()])
        step, sums = self.step, dict(self.sums)
        while True:
            try:
                return self.one_epoch(batches)
            except NotFinite:
                if self.history.slowed == TRIES:
                    raise
            self.history.slowed += 1
            log.warning(
                "%s: the loss of epoch %d is not finite; it is repeated at half the rate",
                self.stage, self.epoch + 1,
            )  # fmt: skip
            self.module.load_state_dict(module)
            self.optimizer.load_state_dict(copy.deepcopy(optimizer))
            self.step, self.sums = step, dict(sums)

    def one_epoch(self, batches: Callable[[int], Iterable]) -> None:
        """Take the steps of an epoch that are still to take."""
        self.module.train()
        seen, done = 0, self.step - self.epoch * self.n_batches
        waiting: list[Batch] = []
        for number, batch in enumerate(batches(self.epoch)):
            seen = number + 1
            if seen <= done:
                continue
            waiting.append(batch)
            if len(waiting) == self.settings.accumulate or seen == self.n_batches:
                self._one_step(waiting)
                waiting = []
                if self.kept.due():
                    self._keep()
        if seen != self.n_batches:
            raise ValueError(
                f"{self.stage}: epoch {self.epoch} had {seen} batches, expected {self.n_batches}"
            )
        for name, total in self._totals().items():
            self.history.terms.setdefault(name, []).append(float(total) / self.n_batches)
        self.sums = {}
        terms = self.history.terms
        every = max(1, self.settings.epochs // LINES)
        if (self.epoch + 1) % every == 0:
            said = ", ".join(f"{name} {course[-1]:.5g}" for name, course in terms.items())
            log.info(
                "%s: epoch %d of %d, %s", self.stage, self.epoch + 1, self.settings.epochs, said
            )
        self.epoch += 1

    def _one_step(self, batches: Sequence[Batch]) -> None:
        settings, number = self.settings, len(batches)
        per_epoch = -(-self.n_batches // settings.accumulate)
        at = self.epoch * per_epoch + self.step % self.n_batches // settings.accumulate
        rate = _rate(at, per_epoch * settings.epochs, settings) * 0.5**self.history.slowed
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            processes.seed_step(_stream(self.seed, self.stage, self.step))
            # parts add up to the loss, and gradients are averaged over processes
            share = processes.count() / number
            terms = self.recorded(batch) if self.recorded else self._pass(batch, share)
            for name, value in terms.items():
                value = value.double()
                self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.step += 1
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.weights, settings.clip_norm)
        self.optimizer.step()

    def _pass(self, batch: Batch, share: float) -> Mapping[str, Tensor]:
        """Leave a share of the loss's gradient in the weights; return the terms."""
        kind, precision = self.weights[0].device.type, self.settings.precision
        with tf32_products(precision == "tf32"):
            with bfloat16_products(precision == "bfloat16", kind):
                terms = self.loss(batch)
            (terms["loss"] * share).backward()
        return {name: value.detach() for name, value in terms.items()}

    def _totals(self) -> dict[str, Tensor]:
        """Return all processes' sums; refuse a loss that is not finite before it is kept."""
        totals = {name: processes.reduce_sum(total) for name, total in self.sums.items()}
        if not all(math.isfinite(float(total)) for total in totals.values()):
            said = ", ".join(f"{name} {float(total):.4g}" for name, total in totals.items())
            raise NotFinite(
                f"{self.stage}: the loss is not finite after step {self.step} (sums {said}); lower "
                "learning_rate or set clip_norm, and look for extreme values in the data"
            )
        return totals

    def judge(self, validate: Callable[[], float]) -> None:
        """Validate, and keep the weights that are the best so far."""
        self.module.eval()
        torch.manual_seed(_stream(self.seed, f"{self.stage}-validation", self.epoch))
        with torch.no_grad():
            value = processes.first(float(validate()))
        self.history.validation.append(value)
        if self.best is None or value < min(self.history.validation[:-1]):
            self.best = _copy(self.module.state_dict())
            self.history.best, self.waited = self.epoch - 1, 0
        else:
            self.waited += 1

    def out_of_patience(self) -> bool:
        """Return whether validations have not become better for too long."""
        patience = self.settings.patience
        return patience is not None and self.waited >= patience

    def finish(self, *, judged: bool) -> None:
        """Take the best weights, or the last ones, and keep them."""
        if judged and self.best is not None:
            self.module.load_state_dict(self.best)
        else:
            self.history.best = self.epoch - 1
        self.module.eval()
        self._count_seconds()
        if self.settings.patience is None and not self.history.converged:
            log.info("%s: the loss still falls; more epochs may help", self.stage)
        self.kept.put(
            self.stage,
            {"module": _copy(self.module.state_dict()), "history": vars(self.history)},
            done=True,
        )

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.history.seconds += now - self._since
        self._since = now

    def _keep(self) -> None:
        totals = self._totals()
        self._count_seconds()
        self.kept.put(
            self.stage,
            {
                "module": self.module.state_dict(), "optimizer": self.optimizer.state_dict(),
                "history": vars(self.history), "epoch": self.epoch, "step": self.step,
                "sums": totals, "best": self.best, "waited": self.waited,
            },
        )  # fmt: skip
        # what stays in memory must not change with the weights
        self.kept.stages.pop(self.stage)

    def _resume(self) -> bool:
        saved = self.kept.get(self.stage)
        if saved is None:
            return False
        self.module.load_state_dict(saved["module"])
        self.history = History(**saved["history"])
        if saved["done"]:
            self.module.eval()
            return True
        self.optimizer.load_state_dict(saved["optimizer"])
        where = self.weights[0].device
        self.epoch, self.step, self.waited = saved["epoch"], saved["step"], saved["waited"]
        parts = processes.count()
        self.sums = {name: total.to(where) / parts for name, total in saved["sums"].items()}
        self.best = saved["best"]
        log.info("%s: goes on at step %d", self.stage, self.step)
        return False


def _decayed(groups: Sequence[Mapping[str, Any]], decay: float) -> list[dict[str, Any]]:
    """Return each group as two: matrices, and vectors that are never decayed."""
    out = []
    for group in groups:
        for flat in (False, True):
            params = [p for p in group["params"] if (p.ndim < 2) == flat]
            own = 0.0 if flat else group.get("weight_decay", decay)
            scale = group.get("lr_scale", 1.0)
            if params:
                out.append({"params": params, "weight_decay": own, "lr_scale": scale})
    return out


def _rate(step: int, n_steps: int, settings: Training) -> float:
    """Return the step size: a linear rise, then a cosine down to its final share."""
    rise = settings.warmup_share * n_steps
    if step < rise:
        return settings.learning_rate * (step + 1) / (rise + 1)
    done = (step - rise) / max(n_steps - rise, 1)
    low = settings.final_share
    return settings.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def _stream(seed: int, stage: str, step: int) -> int:
    """Return the seed of one step's random numbers."""
    digest = hashlib.sha256(f"{seed} {stage} {step}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
