"""Communities found again: in other starts, in each animal alone, in each half of the data."""

from __future__ import annotations

import numpy as np
import torch

from neuropipe.metrics import congruence
from neuropipe.models.ntf_connectome.config import Config
from neuropipe.models.ntf_connectome.entries import Entries
from neuropipe.models.ntf_connectome.learned import Learned, cleaned, folded
from neuropipe.models.ntf_connectome.model import Outcome, refit_patterns
from neuropipe.models.ntf_connectome.motifs import motif_labels

N_BLOCKS = 20  # stretches of each animal's times that go to the halves in turn


def repeated_communities(
    learned: Learned, outcome: Outcome, x: Entries, config: Config, *, seed: int
) -> dict[str, np.ndarray]:
    """Return the communities of each component's graph as parts of the evidence show it.

    Parameters
    ----------
    learned : Learned
    outcome : Outcome
        Of all starts.
    x : Entries
        What the factors were learned from.
    config : Config
    seed : int

    Returns
    -------
    dict
        ``restart`` (restart, component, unit): of the matched component of each start.
        ``half`` (half, component, unit): patterns refitted to every other stretch of time, each
        animal's times cut into 20, activations and loadings held. ``animal`` (animal, component,
        unit), with two animals or more: likewise from one animal. -1 for neurons that the animal
        lacks, and for components without activation in that part of the data.
    """
    everyone = np.ones(len(learned.units), bool)
    out = {
        "restart": np.stack([
            _labels(pair, learned, everyone, config, seed)
            for pair in _matched_patterns(learned, outcome)
        ]),
        "half": np.stack([
            _of_rows(x, _half(x) == half, learned, everyone, config, seed) for half in (0, 1)
        ]),
    }  # fmt: skip
    if len(learned.animals) > 1:
        rows = []
        for w in range(len(learned.animals)):
            keep = x.animal == w
            shown = x.present[x.kind[keep]].any(0).cpu().numpy()
            rows.append(_of_rows(x, keep, learned, shown, config, seed))
        out["animal"] = np.stack(rows)
    return out


def _matched_patterns(learned: Learned, outcome: Outcome) -> list[torch.Tensor]:
    """Return each start's patterns in the order of the learned ones."""
    ours = [f.double().cpu().numpy() for f in (learned.time, learned.animal, learned.pair)]
    found = []
    for factors in zip(*outcome.factors, strict=True):
        _, match = congruence(ours, [f.double().cpu().numpy() for f in factors])
        order = torch.as_tensor(match, device=learned.pair.device)
        found.append(cleaned(factors[2][:, order], learned.seen))
    return found


def _half(x: Entries) -> torch.Tensor:
    """Return 0 or 1 for each row."""
    halves = [
        torch.arange(part.stop - part.start) * N_BLOCKS // max(part.stop - part.start, 1) % 2
        for part in x.rows_of
    ]
    return torch.cat(halves).to(x.time.device)


def _of_rows(
    x: Entries, keep: torch.Tensor, learned: Learned, shown: np.ndarray, config: Config, seed: int
) -> np.ndarray:
    """Return the communities (component, unit) that some rows show by themselves."""
    part = x.only(keep)
    pair = refit_patterns(part, learned.time, learned.animal, learned.pair, config.shrinkage)
    strength = part.rows(learned.time[None], learned.animal[None])[0].square().sum(0)
    labels = _labels(cleaned(pair, learned.seen), learned, shown, config, seed)
    return np.where((strength > 0).cpu().numpy()[:, None], labels, -1)


def _labels(
    pair: torch.Tensor, learned: Learned, shown: np.ndarray, config: Config, seed: int
) -> np.ndarray:
    matrices = folded(pair, learned.seen, len(learned.units))[:, shown][:, :, shown]
    out = np.full((len(matrices), len(shown)), -1)
    out[:, shown] = motif_labels(matrices, config, seed=seed)
    return out
