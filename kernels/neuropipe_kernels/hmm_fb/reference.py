"""Forward-backward in plain torch: exact, time-parallel, float64 inside; the CPU path.

Legend: P transition, e likelihood of a bin divided by its largest state's, a filtered
distribution up to a factor, u = e times the backward message, M a chunk's transfer matrix.
Each recursion is renormalised often enough to stay inside float64's range; posteriors and
transition counts do not depend on those factors, only the evidence collects them.
"""

from __future__ import annotations

import math

import torch

from neuropipe_kernels.chunks import Chunks, n_chunks_for
from neuropipe_kernels.hmm_fb.logspace import forward_backward_log

# Scaled recursions lose a state whose weight falls below 1e-308 of the others'. One transition
# brings at least the smallest entry of P back, so above this bound nothing visible is lost.
SMALLEST_TRANSITION = 1e-140


def forward_backward(
    log_likelihood: torch.Tensor,
    transition: torch.Tensor,
    initial: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Smooth a batch of sequences.

    Parameters
    ----------
    log_likelihood : (sequence, time, state), nats
    transition : (state, state) or (sequence, state, state)
    initial : (state,) or (sequence, state)
    lengths : (sequence,) int64 or None

    Returns
    -------
    log_evidence : (sequence,) float64, nats
    state_probability : (sequence, time, state), dtype of the input, 0 past the length
    d_transition : (sequence, state, state) float64
        Derivative of the evidence by each entry of P; times P it is the expected count.
    b_first : (sequence, state)
        Backward vector at bin 0, up to a factor a sequence.

    Notes
    -----
    Time and memory are linear in the bins: about six float64 arrays of the input's shape.
    A transition matrix with (nearly) zero entries goes to the log-space form, which is
    several times slower.
    """
    floor = float(transition.min())
    if floor < SMALLEST_TRANSITION:
        return forward_backward_log(log_likelihood, transition, initial, lengths)
    every = _steps_between_rescales(floor)
    n_sequences, n_bins, n_states = log_likelihood.shape
    P = transition.double().view(-1, n_states, n_states)
    out = log_likelihood.new_zeros(log_likelihood.shape)
    first = log_likelihood[:, 0].double() + initial.double().log()
    top = first.amax(-1, keepdim=True)
    a_first = (first - top).exp_()
    total = a_first.sum(-1, keepdim=True)
    evidence = (total.log() + top)[:, 0]
    a_first /= total
    chunks = Chunks(
        lengths,
        n_sequences,
        n_bins,
        P.shape[0] > 1,
        min(max(1, n_bins - 1), n_chunks_for(n_sequences, n_bins)),
        log_likelihood.device,
    )
    if chunks.n_steps == 0:
        b_first = torch.ones_like(a_first)
        d_transition = P.new_zeros(n_sequences, n_states, n_states)
    else:
        e = chunks.gather(log_likelihood).double()  # (C, G, K, N)
        top_t = e.amax(2, keepdim=True)
        e.sub_(top_t).exp_()
        evidence += chunks.by_sequence(top_t.sum((0, 2))).sum(1)
        M, log_scale = _transfer(e, P, every, chunks)
        evidence += log_scale.sum(1)
        a_in, b_out, log_scan = _scan(M, a_first, every)
        evidence += log_scan
        A, factors = _forward(e, P, chunks.by_column(a_in[:, :-1]), every, chunks)
        U, B, b_in = _backward(e, P, chunks.by_column(b_out), every, chunks)
        b_first = chunks.by_sequence(b_in)[:, 0]
        g = B.mul_(A[1:])
        total = g.sum(2, keepdim=True)
        U /= total
        for step, factor in factors:  # total holds the rescaled A of these steps
            U[step] /= factor
        if chunks.ragged:
            U[chunks.full_steps :].masked_fill_(~chunks.valid, 0)
        d_transition = _outer(A[:-1], U, chunks)
        chunks.scatter(g.div_(total), out)
    g_first = a_first * b_first
    total = g_first.sum(-1, keepdim=True)
    out[:, 0] = (g_first / total).to(out.dtype)
    return evidence, out, d_transition, b_first


def _steps_between_rescales(smallest: float) -> int:
    """Return after how many steps to rescale; each may shrink a sum by the smallest entry of P."""
    digits = -math.log10(smallest) if smallest < 1 else 0.0
    return 8 if digits < 31 else max(1, int(280 / digits) - 1)


def _transfer(
    e: torch.Tensor, P: torch.Tensor, every: int, chunks: Chunks
) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply P diag(e) over each chunk; return (sequence, chunk, from, to) and log factors."""
    n_groups, n_states, n_columns = e.shape[1:]
    PT = P.transpose(1, 2).contiguous()
    eye = torch.eye(n_states, dtype=P.dtype, device=P.device)
    old = eye[:, :, None].expand(n_groups, n_states, n_states, n_columns).contiguous()
    new = torch.empty_like(old)  # (G, to, from, N)
    log_row = old.new_zeros(n_groups, n_states, n_columns)
    wide = (n_groups, n_states, n_states * n_columns)
    if n_groups == 1:
        PT, wide = PT[0], wide[1:]
    product = torch.mm if n_groups == 1 else torch.bmm
    for step, e_t in enumerate(e.unsqueeze(3).unbind(0)):
        if step == 0:
            torch.mul(P.transpose(1, 2)[..., None], e_t, out=new)
        else:
            product(PT, old.view(wide), out=new.view(wide))
            new.mul_(e_t)
        chunks.hold(step, new, old)
        if step % every == every - 1 or step == len(e) - 1:
            total = new.sum(1)
            new /= total.unsqueeze(1)
            log_row += total.log_()
        old, new = new, old
    M = chunks.by_sequence(old.transpose(1, 2))  # (sequence, chunk, from, to)
    log_row = chunks.by_sequence(log_row)
    log_scale = log_row.amax(-1, keepdim=True)
    return M * (log_row - log_scale).exp_()[..., None], log_scale[..., 0]


def _scan(
    M: torch.Tensor, a_first: torch.Tensor, every: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Carry the first distribution forward and ones backward over the chunks.

    Returns what enters each chunk (sequence, chunk + 1, state), what leaves it backward
    (sequence, chunk, state), and the log factors taken out on the way forward.
    """
    n_sequences, n_chunks, n_states, _ = M.shape
    # Both directions advance in one product: the backward one sees the chunks reversed.
    both = torch.stack([M.transpose(0, 1), M.transpose(0, 1).flip(0).transpose(2, 3)], 1)
    both = both.reshape(n_chunks, 2 * n_sequences, n_states, n_states)
    v = M.new_ones(n_chunks + 1, 2 * n_sequences, 1, n_states)
    v[0, :n_sequences, 0] = a_first
    totals = []
    rows = v.unbind(0)
    for step, matrix in enumerate(both.unbind(0)):
        torch.bmm(rows[step], matrix, out=rows[step + 1])
        if step % every == every - 1 or step == n_chunks - 1:
            total = rows[step + 1].sum(-1, keepdim=True)
            rows[step + 1].div_(total)
            totals.append(total)
    log_scan = torch.stack(totals)[:, :n_sequences, 0, 0].log().sum(0)
    v = v[:, :, 0].transpose(0, 1)  # (2 sequence, chunk + 1, state)
    return v[:n_sequences], v[n_sequences:, :-1].flip(1), log_scan


def _forward(
    e: torch.Tensor, P: torch.Tensor, a_in: torch.Tensor, every: int, chunks: Chunks
) -> tuple[torch.Tensor, list[tuple[int, torch.Tensor]]]:
    """Filter inside all chunks at once; return (step + 1, G, K, N) and the factors taken out."""
    A = e.new_empty(e.shape[0] + 1, *e.shape[1:])
    A[0] = a_in
    factors = []
    PT = P.transpose(1, 2).contiguous()
    shared = e.shape[1] == 1
    product = torch.mm if shared else torch.bmm
    PT = PT[0] if shared else PT
    rows, e_rows = A.unbind(0), e.unbind(0)
    flat = (A[:, 0] if shared else A).unbind(0)
    for step, e_t in enumerate(e_rows):
        a = rows[step + 1]
        product(PT, flat[step], out=flat[step + 1])
        a.mul_(e_t)
        if step % every == every - 1:
            total = a.sum(1, keepdim=True)
            a /= total
            factors.append((step, total))
        chunks.hold(step, a, rows[step])
    return A, factors


def _backward(
    e: torch.Tensor, P: torch.Tensor, b_out: torch.Tensor, every: int, chunks: Chunks
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run the backward messages; return u and b (step, G, K, N) and b before each chunk."""
    U, B = torch.empty_like(e), torch.empty_like(e)
    b_in = torch.empty_like(e[0])
    B[-1] = b_out
    shared = e.shape[1] == 1
    product = torch.mm if shared else torch.bmm
    P = P[0] if shared else P
    b_rows, e_rows, u_rows = [b_in, *B.unbind(0)], e.unbind(0), U.unbind(0)
    b_flat = [b_in[0], *B[:, 0].unbind(0)] if shared else b_rows
    u_flat = U[:, 0].unbind(0) if shared else u_rows
    for step in range(e.shape[0] - 1, -1, -1):
        b = b_rows[step + 1]
        if step % every == every - 1:
            b /= b.sum(1, keepdim=True)
        torch.mul(b, e_rows[step], out=u_rows[step])
        product(P, u_flat[step], out=b_flat[step])
        chunks.hold(step, b_rows[step], b)
    return U, B, b_in


def _outer(A: torch.Tensor, W: torch.Tensor, chunks: Chunks) -> torch.Tensor:
    """Sum a w' over the bins of each sequence: (sequence, state, state)."""
    n_steps, _, n_states, _ = A.shape
    split = (n_steps, n_states, chunks.n_sequences, chunks.n_chunks)
    if chunks.n_groups == 1:
        A, W = A.view(split).transpose(1, 2), W.view(split).transpose(1, 2)
    A, W = A.flatten(0, 1), W.flatten(0, 1)  # (C sequence, K, chunk)
    return torch.bmm(A, W.transpose(1, 2)).view(n_steps, -1, n_states, n_states).sum(0)
