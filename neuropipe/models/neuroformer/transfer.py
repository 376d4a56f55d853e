"""From one fit to the next: what a pretrained network hands on, and what of it is trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from neuropipe.errors import ConfigError
from neuropipe.models.neuroformer.config import Config, Form
from neuropipe.models.neuroformer.model import Network, Sizes
from neuropipe.models.neuroformer.scaling import Scaling

log = logging.getLogger(__name__)

# One row a unit: what belongs to a session, and not to the trunk.
UNIT_TABLES = ("spikes.unit.weight", "heads.unit.weight", "heads.unit_bias")
HEADS = ("behavior.",)
BUILT = ("width", "n_heads", "layers_current", "layers_past", "layers_frames", "layers_stimulus",
         "layers_covariates", "layers_state", "heads", "ordered", "published_blocks",
         "joined_frames")  # fmt: skip


def check_alike(own: Form, other: Form, sizes: Sizes, given: Sizes, where: str) -> None:
    """Refuse a pretrained network that this one cannot take its weights from.

    Raises
    ------
    ConfigError
        Naming the first setting that differs.
    """
    pairs = [(n, getattr(own, n), getattr(other, n)) for n in BUILT]
    pairs += [(n, getattr(sizes, n), getattr(given, n)) for n in ("window_bins", "history_bins")]
    if sizes.frame is not None and given.frame is not None:
        pairs += [(n, getattr(sizes, n), getattr(given, n)) for n in ("frame", "patch", "n_frames")]
    for name, found, expected in pairs:
        if found != expected:
            raise ConfigError(
                f"neuroformer: pretrained {where} has {name} {expected}, this fit {found}; set "
                f"{name} as there, or fit without pretrained"
            )


def with_scales(scaling: Scaling, given: Scaling, config: Config, before: Config) -> Scaling:
    """Return the scaling with the scales that the trunk has learned with."""
    n = len(config.covariates)
    if config.covariates == before.covariates and n:
        mean, sd = scaling.mean.copy(), scaling.sd.copy()
        mean[:n], sd[:n] = given.mean[:n], given.sd[:n]
        scaling = replace(scaling, mean=mean, sd=sd)
    same = config.targets == before.targets and config.target_kind == before.target_kind
    if same and config.targets and config.n_classes == before.n_classes:
        mean, sd = scaling.mean.copy(), scaling.sd.copy()
        mean[n:], sd[n:] = given.mean[len(before.covariates) :], given.sd[len(before.covariates) :]
        scaling = replace(scaling, mean=mean, sd=sd, edges=given.edges, centers=given.centers)
    if scaling.frame is not None and given.frame is not None:
        scaling = replace(scaling, pixel=given.pixel)
    return scaling


@torch.no_grad()
def take_weights(
    network: Network,
    scaling: Scaling,
    given: Mapping[str, torch.Tensor],
    given_scaling: Scaling,
    *,
    same_targets: bool,
) -> list[str]:
    """Copy what a pretrained network knows, and return the names of what is new.

    Parameters
    ----------
    network : Network
        Initialised; units, streams and heads that are new stay as they are.
    scaling, given_scaling : Scaling
        Say which rows of the unit tables are which unit.
    given : mapping
        The pretrained network's weights.
    same_targets : bool
        Whether its behaviour head decodes the same.
    """
    own = network.state_dict()
    here, there = _matched(scaling, given_scaling)
    fresh = []
    for name, value in own.items():
        other = given.get(name)
        if name in UNIT_TABLES and other is not None:
            step = 1 if name == "spikes.unit.weight" else 0  # its first row opens the window
            value[here + step] = other[there + step]
            if step:
                value[0] = other[0]
            if len(here) < scaling.n_units:
                fresh.append(name)
        elif other is None or other.shape != value.shape or (
            name.startswith(HEADS) and not same_targets
        ):  # fmt: skip
            fresh.append(name)
        else:
            value.copy_(other)
    known = len(here)
    log.info("pretrained: %d of %d units known, new: %s", known, scaling.n_units,
             ", ".join(sorted({n.rsplit(".", 1)[0] for n in fresh})) or "nothing")  # fmt: skip
    return fresh


def _matched(own: Scaling, given: Scaling) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers, here and there, of the units that both know by session and name."""
    here, there = [], []
    for key, units in own.units.items():
        if key not in given.units:
            continue
        place = {u: n for n, u in enumerate(given.units[key].tolist())}
        for n, unit in enumerate(units.tolist()):
            if unit in place:
                here.append(own.first[key] + n)
                there.append(given.first[key] + place[unit])
    return np.array(here, dtype=np.int64), np.array(there, dtype=np.int64)


def freeze(network: Network, fresh: list[str]) -> None:
    """Train only what is new, and the heads of behaviour."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in fresh or name.startswith(HEADS))
