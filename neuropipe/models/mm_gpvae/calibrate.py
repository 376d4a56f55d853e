"""What predictions of missing parts are set right by: a line a channel, from training windows.

Whatever the rest does not tell of a unit, the prior fills in. Real spikes come in bursts that no
Gaussian process draws, so the mean of such predictions, and how far they move, may be off. Both are
set right where the truth is known: the same parts of the training windows are left out in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropipe.batching.held_units import groups_of
from neuropipe.models.mm_gpvae.model import MMGPVAENetwork
from neuropipe.models.mm_gpvae.predict import expected, posterior, withheld

MOST_BINS = 5000  # of the training windows, from pieces evenly spread
ROUNDS = 50
LOWEST = 1e-12


class Line(NamedTuple):
    """Corrections of one kind of prediction.

    A prediction p becomes offset + slope (p - center), or of counts the exponential of that with
    log p in the place of p. A slope is never negative. Counts are told no higher and no lower than
    the training windows showed: beyond them an exponential would run away.

    Attributes
    ----------
    values : (5, channel)
        Offsets, slopes, centres, and the lowest and highest p (of counts: log p) that is told.
    logarithmic : bool
        Whether counts are told.
    """

    values: np.ndarray
    logarithmic: bool

    def __call__(self, predicted: Tensor) -> Tensor:
        """Correct predictions (..., channel)."""
        offset, slope, center, low, high = torch.as_tensor(self.values).to(predicted)
        x = predicted.clamp(min=LOWEST).log() if self.logarithmic else predicted
        x = offset + slope * (x.clamp(low, high) - center)
        return x.exp() if self.logarithmic else x


def crossed(net: MMGPVAENetwork, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the rest tells of parts that are left out, in the model's units.

    Returns
    -------
    dict
        ``co_smoothing (piece, bin, unit)``, each group of units from the other units alone, where
        there are two; ``behavior_from_neural (piece, bin, channel)`` and ``neural_from_behavior
        (piece, bin, unit)`` where there are both modalities.
    """

    def predicted(name: str, neural: bool | np.ndarray = True, behavior: bool = True) -> Tensor:
        seen = withheld(batch, neural=neural, behavior=behavior)
        return expected(net, posterior(net, seen), (name,))[name]

    has = [name for name, _ in net.modalities()]
    out = {}
    groups = groups_of(len(net.start.neural_mean)) if "neural" in has else []
    if groups:
        found = torch.zeros_like(batch["neural"])
        for held in groups:
            value = predicted("neural", neural=~held, behavior=False)
            found[..., torch.as_tensor(held)] = value[..., torch.as_tensor(held)]
        out["co_smoothing"] = found
    if len(has) == 2:
        out["behavior_from_neural"] = predicted("behavior", behavior=False)
        out["neural_from_behavior"] = predicted("neural", neural=False)
    return out


def lines(net: MMGPVAENetwork, data: Mapping[str, Tensor]) -> dict[str, Line]:
    """Fit the corrections on some pieces of the training windows."""
    step = -(-int(data["n_bins"].sum()) // MOST_BINS)
    batch = {name: x[::step] for name, x in data.items()}
    out = {}
    for name, predicted in crossed(net, batch).items():
        told = "behavior" if name.startswith("behavior") else "neural"
        family = dict(net.modalities())[told].likelihood.family
        seen = batch[f"{told}_seen"].cpu().numpy().reshape(-1, predicted.shape[-1])
        y, p = (x.double().cpu().numpy().reshape(seen.shape) for x in (batch[told], predicted))
        fit = _straight if family == "gaussian" else _exponential
        found = [fit(p[ok, n], y[ok, n]) for n, ok in enumerate(seen.T)]
        out[name] = Line(np.array(found).T, family != "gaussian")
    return out


def _straight(predicted: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Fit offset, slope and centre by least squares; no bounds."""
    center = float(predicted.mean()) if len(y) else 0.0
    x = predicted - center
    about = float(x @ x)
    slope = max(float(x @ y) / about, 0.0) if about > 0 else 1.0
    return (float(y.mean()) if len(y) else center), slope, center, -np.inf, np.inf


def _exponential(predicted: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Fit the same by Poisson regression on log predictions; a silent unit stays as predicted."""
    x = np.log(np.maximum(predicted, LOWEST))
    center = float(x.mean()) if len(y) else 0.0
    if not y.sum() > 0:
        return center, 1.0, center, -np.inf, np.inf
    bounds = float(x.min()), float(x.max())
    x = x - center
    offset, slope = float(np.log(y.mean())), 0.0
    for _ in range(ROUNDS):
        rate = np.exp(np.minimum(offset + slope * x, 20.0))
        gradient = np.array([(y - rate).sum(), (y - rate) @ x - (slope - 1)])
        curve = np.array([[rate.sum(), rate @ x], [rate @ x, rate @ (x * x) + 1]])
        step = np.linalg.solve(curve, gradient)
        step /= max(1.0, np.abs(step).max())  # far from the solution a full one overshoots
        offset, slope = offset + float(step[0]), slope + float(step[1])
        if np.abs(step).max() < 1e-9:
            break
    if slope <= 0:
        offset, slope = float(np.log(y.mean())), 0.0
    return offset, slope, center, *bounds
