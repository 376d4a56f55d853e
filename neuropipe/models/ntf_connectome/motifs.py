"""Communities of each component's graph, through the room `neuropipe.communities`."""

from __future__ import annotations

import numpy as np

from neuropipe.communities.consensus import consensus
from neuropipe.communities.modularity import modularity
from neuropipe.communities.sbm import fit_assortative, fit_sbm
from neuropipe.models.ntf_connectome.config import Config


def motif_labels(affinity: np.ndarray, config: Config, *, seed: int) -> np.ndarray:
    """Return the community of each neuron in each component, (component, unit), integer.

    Parameters
    ----------
    affinity : (component, unit, unit)
        Symmetric; NaN for pairs that no animal showed together.
    config : Config
        ``communities`` names the method.
    seed : int

    Notes
    -----
    A pair without a value gets the mean weight of its component, which speaks neither for nor
    against a common community; zero would speak against.

    ``consensus`` is what two of three say: the block model, which asks who is alike, what keeps to
    itself beyond degrees and strengths, and modularity. Two methods would have no majority: on
    weighted LFR graphs (docs/models/ntf_connectome.md) their union loses what either has found.
    """
    return np.stack([_labels(_filled(w), config, seed) for w in affinity])


def _filled(weights: np.ndarray) -> np.ndarray:
    out = weights.astype(float)
    np.fill_diagonal(out, 0.0)
    off = ~np.eye(len(out), dtype=bool)
    known = np.isfinite(out) & off
    out[~np.isfinite(out)] = out[known].mean() if known.any() else 0.0
    return out


def _labels(weights: np.ndarray, config: Config, seed: int) -> np.ndarray:
    if not weights.any():  # a component without a pattern has no communities
        return np.zeros(len(weights), dtype=int)
    found = []
    n_blocks = None if config.n_blocks is None else min(config.n_blocks, len(weights))
    if config.communities in ("sbm", "consensus"):
        found.append(
            fit_sbm(
                weights, family=config.weight_family, degree_corrected=config.degree_corrected,
                nested=config.nested, n_blocks=n_blocks, seed=seed,
            ).labels
        )  # fmt: skip
    if config.communities in ("assortative", "consensus"):
        found.append(fit_assortative(weights, n_blocks=n_blocks, seed=seed).labels)
    if config.communities in ("modularity", "consensus"):
        found.append(modularity(weights, resolution=config.resolution, seed=seed).labels)
    return found[0] if len(found) == 1 else consensus(found, seed=seed)
