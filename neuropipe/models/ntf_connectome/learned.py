"""What a fit has learned: scaled, put in order, and laid out as labelled arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neuropipe.batching.derivatives import Derivatives
from neuropipe.batching.traces import Clock
from neuropipe.models.ntf_connectome.config import REVISION, Config
from neuropipe.models.ntf_connectome.entries import Entries
from neuropipe.models.ntf_connectome.model import Outcome
from neuropipe.models.ntf_connectome.motifs import motif_labels
from neuropipe.models.ntf_connectome.nulls import p_value
from neuropipe.models.ntf_connectome.rank import Curve, similarities

NOTHING = 1e-6  # of a component's largest pair
MOST_UNITS = 2000  # beyond, patterns are kept by pair instead of as matrices


def cleaned(pair: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return patterns (pair, component) with 0 for what was never seen or rests at the floor.

    What rests at the floor of the updates is none at all, also for graphs of it.
    """
    return torch.where(seen[:, None] & (pair > NOTHING * pair.amax(0)), pair, 0.0)


def folded(pair: torch.Tensor, seen: torch.Tensor, n_units: int) -> np.ndarray:
    """Return patterns as matrices (component, unit, unit), NaN where never seen."""
    i, j = np.triu_indices(n_units, 1)
    value = np.where(seen.cpu().numpy()[:, None], pair.cpu().numpy(), np.nan)
    out = np.zeros((value.shape[1], n_units, n_units), dtype=np.float32)
    out[:, i, j] = value.T
    out[:, j, i] = value.T
    return out


class Learned(NamedTuple):
    """Factors of the best start, and the names along them.

    Attributes
    ----------
    time : (time, component)
    animal : (animal, component)
        Largest value of each component is 1.
    pair : (pair, component)
        Length of each component is 1.
    seen : (pair,) bool
        Whether any training entry showed the pair.
    animals, units : tuple of str
    """

    time: torch.Tensor
    animal: torch.Tensor
    pair: torch.Tensor
    seen: torch.Tensor
    animals: tuple[str, ...]
    units: tuple[str, ...]

    @classmethod
    def of(
        cls, outcome: Outcome, x: Entries, animals: Sequence[str], units: Sequence[str]
    ) -> Learned:
        """Take the best start, its heaviest component first."""
        time, animal, pair = (f[outcome.best] for f in outcome.factors)
        shown = x.present.float()
        together = (shown.T @ shown) > 0
        i, j = x.units
        seen = together[i, j]
        pair = cleaned(pair, seen)
        length = pair.norm(dim=0)
        top = animal.amax(0)
        # at the floor a loading would be no hold: activations of a billion would undo it
        animal = torch.where(animal > NOTHING * top, animal, 0.0)
        order = torch.argsort(time.norm(dim=0) * animal.norm(dim=0) * length, descending=True)
        tiny = torch.finfo(pair.dtype).tiny
        return cls(
            (time * length * top)[:, order], (animal / top.clamp(min=tiny))[:, order],
            (pair / length.clamp(min=tiny))[:, order], seen, tuple(animals), tuple(units),
        )  # fmt: skip

    def affinity(self) -> np.ndarray:
        """Return the patterns as matrices (component, unit, unit), NaN where never seen."""
        return folded(self.pair, self.seen, len(self.units))

    def membership(self) -> np.ndarray:
        """Return each neuron's mean affinity with those it was seen with, (unit, component)."""
        n = len(self.units)
        i, j = torch.triu_indices(n, n, 1, device=self.pair.device)
        weight = self.seen.to(self.pair.dtype)
        total = self.pair.new_zeros(n, self.pair.shape[1])
        number = self.pair.new_zeros(n)
        # on the CPU, where sums of many into one keep their order
        total, number, i, j = total.cpu(), number.cpu(), i.cpu(), j.cpu()
        for unit in (i, j):
            total.index_add_(0, unit, self.pair.cpu())
            number.index_add_(0, unit, weight.cpu())
        mean = total / number.clamp(min=1)[:, None]
        return (mean / mean.amax(0).clamp(min=torch.finfo(mean.dtype).tiny)).numpy()


def labelled(
    learned: Learned,
    config: Config,
    clock: Clock,
    found: Derivatives,
    outcome: Outcome,
    curve: Curve | None,
    null: np.ndarray,
    repeats: Mapping[str, np.ndarray],
    *,
    seed: int,
) -> xr.Dataset:
    """Return everything learned as one Dataset, the estimator's `learns`.

    Parameters
    ----------
    learned : Learned
    config : Config
    clock : Clock
    found : Derivatives
        Windows of the times, and with ``clock: own`` their animals.
    outcome : Outcome
        Of all starts.
    curve : Curve or None
        Where a rank was chosen.
    null : (shuffle,)
        Explained variance of shifted traces.
    repeats : mapping of str to (part, component, unit)
        Communities found again, by the dimension of the parts.
    seed : int
        Of the communities.
    """
    one = {"units": "1"}
    energy = learned.time.double().norm(dim=0) * learned.animal.double().norm(dim=0)
    weight = (energy.square() / energy.square().sum().clamp(min=1e-300)).cpu().numpy()
    explained = 1 - float(outcome.error[-1].min()) ** 2
    variables: dict[str, Any] = {
        "membership": (("unit", "component"), learned.membership(), one),
        "animal_loading": (("animal", "component"), learned.animal.cpu().numpy(), one),
        "activation": (("window", "component"), learned.time.cpu().numpy(), one),
        "weight": ("component", weight, one),
        "restart_error": ("restart", outcome.error[-1].cpu().numpy(), one),
        "restart_similarity": ("restart", similarities(outcome), one),
        "explained_variance": ((), explained, one),
    }
    coords: dict[str, Any] = {
        "unit": ("unit", np.array(learned.units, dtype=object), {"units": ""}),
        "animal": ("animal", np.array(learned.animals, dtype=object), {"units": ""}),
        "time": ("window", clock.phase_s + found.window * clock.window_s, {"units": "s"}),
    }
    if config.clock == "own":
        names = np.array(learned.animals, dtype=object)[found.owner]
        coords["window_animal"] = ("window", names, {"units": ""})
    if len(learned.units) <= MOST_UNITS:
        affinity = learned.affinity()
        variables["affinity"] = (("component", "unit", "source_unit"), affinity, one)
        coords["source_unit"] = ("source_unit", coords["unit"][1], {"units": ""})
        if config.communities != "none":
            labels = motif_labels(affinity, config, seed=seed)
            variables["community"] = (("component", "unit"), labels, one)
            for part, again in repeats.items():
                variables[f"community_of_{part}"] = ((part, "component", "unit"), again, one)
    else:
        pair = np.where(learned.seen.cpu().numpy()[:, None], learned.pair.cpu().numpy(), np.nan)
        variables["pair_affinity"] = (("pair", "component"), pair, one)
    if curve is not None:
        variables["rank_stability"] = ("rank", curve.stability, one)
        variables["rank_nuclear"] = (("rank", "restart"), curve.nuclear, one)
        if np.isfinite(curve.held_out).all():
            variables["rank_held_out"] = (("rank", "repeat"), curve.held_out, one)
        coords["rank"] = ("rank", np.asarray(config.ranks), one)
    if len(null):
        variables["null_explained_variance"] = ("shuffle", null, one)
        variables["null_p"] = ((), p_value(explained, null), one)
    attrs = {
        "affinity": config.affinity, "update": config.update, "window_s": clock.window_s,
        "phase_s": clock.phase_s, "rank": learned.pair.shape[1], "revision": REVISION,
    }  # fmt: skip
    return xr.Dataset(variables, coords, attrs)
