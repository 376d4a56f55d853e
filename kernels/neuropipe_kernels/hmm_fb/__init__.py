"""Forward-backward of a hidden Markov model: evidence, posteriors, expected transitions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from neuropipe_kernels.chain import check_chain, check_possible
from neuropipe_kernels.dispatch import use_fused
from neuropipe_kernels.hmm_fb.reference import forward_backward


class HMMPosterior(NamedTuple):
    """What one smoothing pass returns.

    Attributes
    ----------
    log_evidence : (sequence,) float64, nats
        Log probability of each sequence; differentiable.
    state_probability : (sequence, time, state)
        Posterior of the state in each bin, in the dtype of the input; 0 past the length.
    transition_count : (sequence, state, state) float64
        Expected number of moves from row to column, summed over time.
    """

    log_evidence: torch.Tensor
    state_probability: torch.Tensor
    transition_count: torch.Tensor


class _ForwardBackward(torch.autograd.Function):
    """The posteriors are the gradients of the evidence, so the backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        log_likelihood: torch.Tensor,
        transition: torch.Tensor,
        initial: torch.Tensor,
        lengths: torch.Tensor | None,
        fused: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        run = forward_backward
        if fused:
            from neuropipe_kernels.hmm_fb.fused import forward_backward as run
        evidence, state, d_transition, b_first = run(log_likelihood, transition, initial, lengths)
        check_possible("hmm_fb", evidence)
        ctx.save_for_backward(log_likelihood[:, 0], initial, state, d_transition, b_first)
        ctx.shared_transition = transition.ndim == 2
        count = transition.double() * d_transition
        ctx.mark_non_differentiable(state, count)
        return evidence, state, count

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        ll_first, initial, state, d_transition, b_first = ctx.saved_tensors
        d_ll = d_P = d_pi = None
        if ctx.needs_input_grad[0]:
            d_ll = g[:, None, None].to(state.dtype) * state
        if ctx.needs_input_grad[1]:
            d_P = (g[:, None, None] * d_transition).to(state.dtype)
            d_P = d_P.sum(0) if ctx.shared_transition else d_P
        if ctx.needs_input_grad[2]:
            log_u = ll_first.double() + b_first.double().log()
            total = torch.logsumexp(log_u + initial.double().log(), -1, keepdim=True)
            d_pi = (g[:, None] * (log_u - total).exp()).to(state.dtype)
            d_pi = d_pi.sum(0) if initial.ndim == 1 else d_pi
        return d_ll, d_P, d_pi, None, None


def hmm_fb(
    log_likelihood: torch.Tensor,
    transition: torch.Tensor,
    initial: torch.Tensor,
    lengths: torch.Tensor | None = None,
    *,
    backend: str = "auto",
) -> HMMPosterior:
    """Smooth sequences under a hidden Markov model.

    Parameters
    ----------
    log_likelihood : (sequence, time, state), nats
        Log likelihood of each bin under each state, float32 or float64; may hold -inf,
        not NaN. A missing bin is a row of zeros. Bins past a sequence's length are ignored.
    transition : (state, state) or (sequence, state, state), probability
        Row = from, column = to; rows sum to 1; dtype of ``log_likelihood``.
    initial : (state,) or (sequence, state), probability
        Distribution of the first bin's state; dtype of ``log_likelihood``.
    lengths : (sequence,) integer or None, bins
        At least 1; None when every sequence fills all bins.
    backend : str
        ``auto``, ``reference`` or ``fused``; see ``dispatch.use_fused``.

    Returns
    -------
    HMMPosterior
        ``log_evidence`` is differentiable by the first three arguments; the other two
        outputs are, up to a factor, those derivatives, and carry no gradient of their own.

    Raises
    ------
    ValueError
        On wrong shapes or dtypes; on CPU tensors also when rows do not sum to 1, a length
        is out of range, or a sequence is impossible under the model.

    Notes
    -----
    CPU: plain torch, parallel over chunks of time, float64 inside; a transition matrix with
    entries below 1e-140 goes to a slower log-space form. CUDA: Triton for up to 32 states
    in the input's dtype with float64 log factors; values are not checked there, and an
    impossible sequence gives a NaN or -inf evidence. With ``backend='auto'`` one number is
    read back from the device, the smallest transition entry, to send matrices with nearly
    zero entries to the reference; nothing is read while a CUDA graph is being captured or
    with ``backend='fused'``.

    Source: Rabiner (1989), equations 19-27 and 37, in scaled form over chunks of time.
    """
    lengths = check_chain("hmm_fb", log_likelihood, transition, initial, lengths)
    fused = use_fused(log_likelihood, backend)
    if fused:
        from neuropipe_kernels.hmm_fb.fused import serves

        fused = serves(log_likelihood, transition, by_name=backend == "fused")
    return HMMPosterior(
        *_ForwardBackward.apply(log_likelihood, transition, initial, lengths, fused)
    )
