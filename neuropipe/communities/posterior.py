"""Partitions drawn from the posterior of a block model: how sure a community is."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from neuropipe.communities.block_state import BlockState, of_weights
from neuropipe.communities.partition import checked_weights
from neuropipe.errors import ConfigError


def sample_partitions(
    weights: np.ndarray, labels: np.ndarray, *, family: str = "exponential",
    degree_corrected: bool = False, n_samples: int = 100, n_burn: int = 20, thin: int = 1,
    seed: int,
) -> np.ndarray:  # fmt: skip
    """Draw partitions by Gibbs sampling, from a start such as the fit of `fit_sbm`.

    Parameters
    ----------
    weights : (n, n)
        As for `fit_sbm`.
    labels : (n,), where the chain starts
    family, degree_corrected : the model; the shape of the gamma family stays as fitted to `labels`
    n_samples, n_burn : partitions kept, and sweeps over all nodes before the first of them
    thin : sweeps between two kept partitions
    seed : int

    Returns
    -------
    (n_samples, n), integer
        `co_assignment` of it gives, for each pair of nodes, the chance of a common community;
        block numbers mean nothing from one sample to the next.

    Raises
    ------
    DataError
        If the weights are no symmetric matrix of finite numbers >= 0.
    ConfigError
        If the labels are not one a node, or a number is below its least.

    Notes
    -----
    The chain is exact: in the long run a partition comes up as often as exp(-description length)
    says, summed over the B! ways to number its blocks. But it moves one node at a time, so that
    in reasonable time it stays with the optimum where it starts: uncertainty of members, hardly
    of the number of communities.

    Source
    ------
    Posterior: Peixoto 2017, PRE 95 012317, Sec. III; sampler: heat bath over all blocks and a new
    one.
    """
    weights = checked_weights(weights, "sample_partitions")
    if np.shape(labels) != (len(weights),):
        raise ConfigError(
            f"sample_partitions: labels have the shape {np.shape(labels)}, expected "
            f"({len(weights)},); hand over Partition.labels"
        )
    for name, number, least in (
        ("n_samples", n_samples, 1),
        ("n_burn", n_burn, 0),
        ("thin", thin, 1),
    ):
        if number < least:
            raise ConfigError(f"sample_partitions: {name} is {number}, expected at least {least}")
    state = BlockState(of_weights(weights, family, degree_corrected), np.asarray(labels))
    state.fit_shape()
    rng = np.random.default_rng(seed)
    samples = np.empty((n_samples, len(weights)), dtype=int)
    for turn in range(n_burn + n_samples * thin):
        for node in rng.permutation(len(weights)):
            cost = state.move_costs(node)
            # unlabelled partitions: each stands for B! labelled ones
            n_blocks = np.full(len(cost), state.n_blocks - (state.sizes[state.labels[node]] == 1))
            n_blocks[-1] += 1
            n_blocks[state.labels[node]] = state.n_blocks
            cost -= gammaln(n_blocks + 1.0)
            chance = np.exp(cost.min() - cost)
            state.move(node, int(np.searchsorted(np.cumsum(chance), rng.random() * chance.sum())))
        state.rebuild(state.labels)
        kept, rest = divmod(turn - n_burn + 1, thin)
        if turn >= n_burn and rest == 0:
            samples[kept - 1] = state.labels
    return samples
