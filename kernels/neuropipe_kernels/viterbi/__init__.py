"""Most likely state path of a hidden Markov model."""

from __future__ import annotations

from typing import NamedTuple

import torch

from neuropipe_kernels.chain import check_chain, check_possible
from neuropipe_kernels.dispatch import use_fused
from neuropipe_kernels.viterbi.reference import best_path


class ViterbiPath(NamedTuple):
    """The best path and its score.

    Attributes
    ----------
    state : (sequence, time) int64
        -1 past the length.
    log_score : (sequence,) float64, nats
        Joint log probability of path and data.
    """

    state: torch.Tensor
    log_score: torch.Tensor


def viterbi(
    log_likelihood: torch.Tensor,
    transition: torch.Tensor,
    initial: torch.Tensor,
    lengths: torch.Tensor | None = None,
    *,
    backend: str = "auto",
) -> ViterbiPath:
    """Find the most likely state path of each sequence.

    Parameters
    ----------
    log_likelihood : (sequence, time, state), nats
        Log likelihood of each bin under each state, float32 or float64; may hold -inf,
        not NaN. A missing bin is a row of zeros. Bins past a sequence's length are ignored.
    transition : (state, state) or (sequence, state, state), probability
        Row = from, column = to; rows sum to 1; may hold zeros.
    initial : (state,) or (sequence, state), probability
        Distribution of the first bin's state.
    lengths : (sequence,) integer or None, bins
        At least 1; None when every sequence fills all bins.
    backend : str
        ``auto``, ``reference`` or ``fused``; see ``dispatch.use_fused``.

    Returns
    -------
    ViterbiPath
        Not differentiable. Among equal predecessors of a state the lowest index is taken.

    Raises
    ------
    ValueError
        On wrong shapes or dtypes; on CPU tensors also when rows do not sum to 1, a length
        is out of range, or every path has score -inf.

    Notes
    -----
    CPU: plain torch, parallel over chunks of time, float64 inside. CUDA: Triton for up to 8
    states, in the input's dtype; above 8 the reference on the device.

    Source: Viterbi (1967); chunked in max-plus algebra, which changes no result but ties.
    """
    lengths = check_chain("viterbi", log_likelihood, transition, initial, lengths)
    run = best_path
    with torch.no_grad():
        if use_fused(log_likelihood, backend):
            from neuropipe_kernels.viterbi.fused import best_path as fused_path
            from neuropipe_kernels.viterbi.fused import serves

            run = fused_path if serves(log_likelihood) else best_path
        state, log_score = run(log_likelihood, transition, initial, lengths)
    check_possible("viterbi", log_score)
    return ViterbiPath(state, log_score)
