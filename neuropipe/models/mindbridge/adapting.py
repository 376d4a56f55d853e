"""Reset-tuning: a new subject joins a fitted bridge, whose shared part stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import xarray as xr
from torch import Tensor

from neuropipe.models.mindbridge import start
from neuropipe.models.mindbridge.batches import Patterns
from neuropipe.models.mindbridge.bridging import (
    Fitted,
    chosen,
    held_rows,
    initialised,
    parted,
    set_linear,
    train,
)
from neuropipe.models.mindbridge.config import Config
from neuropipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def joined(
    source: Fitted, new: Patterns, unit: Mapping[str, Tensor], config: Config, *, seed: int,
    stage: str, known: str | None = None,
) -> Fitted:  # fmt: skip
    """Return the source's bridge with an untrained part for one more subject, all else frozen.

    A linear aggregation starts in closed form, with what the source's subjects' brains make of
    images as prior.
    """
    n_voxels = (*source.n_voxels, new.n_voxels)
    device = new.row.device
    bridge = initialised(source.bridge.form, n_voxels, seed=seed, stage=stage).to(device)
    bridge.load_state_dict(source.bridge.state_dict(), strict=False)
    bridge.requires_grad_(False)
    bridge.subject(len(n_voxels) - 1).requires_grad_(True)
    kind, power = "random", source.power
    if source.components is not None:
        joint = torch.cat(list(unit.values()), 1)[new.row].double()
        z, x = source.components.of(joint), new.mean.double()
        kind = (
            known
            or start.choices(
                [start.compared(z, x, source.components.sd, source.power, config.start)]
            )[0]
        )
        set_linear(bridge, len(n_voxels) - 1, start.fit_linear(z, x, source.power, kind))
        power = (*source.power, start.response_power(z, x - x.mean(0)))
    return Fitted(
        bridge.eval(), (*source.names, new.name), n_voxels, source.mean, source.length,
        source.components, power, (*source.started, kind), xr.Dataset(),
    )  # fmt: skip


def adapt_bridge(
    source: Fitted, new: Patterns, sources: Sequence[Patterns], unit: Mapping[str, Tensor],
    config: Config, *, seed: int, stage: str, kept: Checkpoint,
) -> Fitted:  # fmt: skip
    """Return a bridge that knows one more subject.

    Parameters
    ----------
    source : Fitted
    new : Patterns
        Of the new subject.
    sources : sequence of Patterns
        Of subjects of the source, whose images lend the new subject pseudo-data: patterns that it
        would have shown, synthesised. None: no cycles.
    unit : mapping of head to (stimulus, feature)
        Of the stimuli of all.

    Notes
    -----
    Source: reset-tuning of Wang et al. (CVPR 2024). As in the pretraining the number of epochs is
    chosen on held-out stimuli of the new subject's training trials.
    """
    data, into = [*sources, new], len(sources)
    training, course, known = config.adaptation, None, None
    held = held_rows([new], config.validation_share, seed=seed, stage=stage)
    parts = parted([new], held) if held is not None else None
    if parts is not None and held is not None:
        [fewer], test = parts
        lent = [p.only(~torch.isin(p.row, held)) for p in sources]
        lent = [p for p in lent if len(p.row)]
        tried = joined(source, fewer, unit, config, seed=seed, stage=stage)
        tried, n_epochs = train(
            tried, [*lent, fewer], unit, config, training, seed=seed, stage=f"{stage}-length",
            kept=kept, test=test, into=len(lent),
        )  # fmt: skip
        course, known = tried.course, tried.started[-1]
        known = None if known == "random" else known
        if n_epochs == 0 and known is not None:
            fitted = joined(source, new, unit, config, seed=seed, stage=stage, known=known)
            return replace(fitted, course=chosen(course, 0))
        training = training.model_copy(update={"epochs": max(n_epochs, 1)})
    fitted = joined(source, new, unit, config, seed=seed, stage=stage, known=known)
    fitted, n_epochs = train(
        fitted, data, unit, config, training, seed=seed, stage=stage, kept=kept, into=into
    )
    fitted.bridge.eval()
    own = fitted.course if course is None else course
    return replace(fitted, course=chosen(own, n_epochs))
