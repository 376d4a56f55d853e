"""Forward-backward in log space: the form for transition matrices with zero entries.

With zeros a state can fall behind the others without bound and still win later, which no
rescaling survives. The recursion is sequential in time and batched over sequences.
"""

from __future__ import annotations

import torch


def forward_backward_log(
    log_likelihood: torch.Tensor,
    transition: torch.Tensor,
    initial: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Smooth a batch of sequences; same inputs and outputs as the scaled form."""
    n_sequences, n_bins, n_states = log_likelihood.shape
    ll = log_likelihood.double().transpose(0, 1)  # (T, B, K)
    log_P = transition.double().log().expand(n_sequences, n_states, n_states)
    into = log_P.transpose(1, 2).contiguous()  # (B, to, from)
    if lengths is None:
        lengths = torch.full((n_sequences,), n_bins, device=ll.device)
    inside = torch.arange(n_bins, device=ll.device)[:, None] < lengths  # (T, B)
    ll = ll.masked_fill(~inside[..., None], 0)
    shortest = int(lengths.min())
    A, B = torch.empty_like(ll), torch.zeros_like(ll)
    A[0] = ll[0] + initial.double().log()
    for t in range(1, n_bins):
        torch.logsumexp(into + A[t - 1].unsqueeze(1), 2, out=A[t])
        A[t] += ll[t]
        if t >= shortest:
            torch.where(inside[t, :, None], A[t], A[t - 1], out=A[t])
    for t in range(n_bins - 2, -1, -1):
        torch.logsumexp(log_P + (B[t + 1] + ll[t + 1]).unsqueeze(1), 2, out=B[t])
        if t + 1 >= shortest:
            B[t].masked_fill_(~inside[t + 1, :, None], 0)
    evidence = torch.logsumexp(A[-1], -1)
    state = (A + B - evidence[:, None]).exp_()
    state /= state.sum(-1, keepdim=True)
    state.masked_fill_(~inside[..., None], 0)
    d_transition = ll.new_zeros(n_sequences, n_states, n_states)
    u = (ll + B - evidence[:, None]).masked_fill_(~inside[..., None], float("-inf"))
    block = max(1, 2**20 // (n_sequences * n_states**2))
    for t in range(1, n_bins, block):
        end = min(t + block, n_bins)
        pair = A[t - 1 : end - 1, :, :, None] + u[t:end, :, None, :]
        d_transition += pair.exp_().sum(0)
    b_first = (B[0] - B[0].amax(-1, keepdim=True)).exp_()
    return evidence, state.transpose(0, 1).to(log_likelihood.dtype), d_transition, b_first
