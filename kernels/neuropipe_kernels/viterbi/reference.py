"""Most likely state path in plain torch: exact, time-parallel, float64 inside; the CPU path.

Legend: d best log score of a path ending in a state, M a chunk's best score from the state
before it to its last state, W for each state at a chunk's end the best path inside it.
"""

from __future__ import annotations

import torch

from neuropipe_kernels.chunks import Chunks, n_chunks_for


def best_path(
    log_likelihood: torch.Tensor,
    transition: torch.Tensor,
    initial: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the best path of each sequence.

    Parameters
    ----------
    log_likelihood : (sequence, time, state), nats
    transition : (state, state) or (sequence, state, state)
    initial : (state,) or (sequence, state)
    lengths : (sequence,) int64 or None

    Returns
    -------
    state : (sequence, time) int64
        -1 past the length.
    log_score : (sequence,) float64, nats
        Joint log probability of path and data.

    Notes
    -----
    Among equal predecessors the lowest index is taken. Work grows with the cube of the
    states, memory with bins times states.
    """
    n_sequences, n_bins, n_states = log_likelihood.shape
    log_P = transition.double().log().view(-1, n_states, n_states)
    d_first = log_likelihood[:, 0].double() + initial.double().log()
    state = torch.full((n_sequences, n_bins, 1), -1, dtype=torch.int64, device=d_first.device)
    chunks = Chunks(
        lengths,
        n_sequences,
        n_bins,
        log_P.shape[0] > 1,
        min(max(1, n_bins - 1), n_chunks_for(n_sequences, n_bins)),
        d_first.device,
    )
    if chunks.n_steps == 0:
        score, last = d_first.max(-1)
        state[:, 0, 0] = last
        return state[..., 0], score
    ll = chunks.gather(log_likelihood).double()
    d_in, score, last = _scan(_transfer(ll, log_P, chunks), d_first)
    back = _point_back(ll, log_P, chunks.by_column(d_in), chunks)
    W, before = _walk(back, chunks)
    ends, first = _link(before, last)
    path = W.gather(2, chunks.by_column(ends[..., None]).expand(W.shape[0], -1, 1, -1))
    chunks.scatter(path, state)
    state[:, 0, 0] = first
    return state[..., 0], score


def _transfer(ll: torch.Tensor, log_P: torch.Tensor, chunks: Chunks) -> torch.Tensor:
    """Best scores across each chunk: (sequence, chunk, from, to)."""
    n_groups, n_states, n_columns = ll.shape[1:]
    into = log_P.transpose(1, 2)[..., None, None]  # (G, to, via, 1, 1)
    new = ll.new_empty(n_groups, n_states, n_states, n_columns)  # (G, to, from, N)
    old = torch.full_like(new, float("-inf"))
    old.diagonal(dim1=1, dim2=2).fill_(0)
    paths = ll.new_empty(n_groups, n_states, n_states, n_states, n_columns)
    for step, ll_t in enumerate(ll.unsqueeze(3).unbind(0)):
        torch.add(into, old.unsqueeze(1), out=paths)
        torch.amax(paths, 2, out=new)
        new += ll_t
        chunks.hold(step, new, old)
        old, new = new, old
    return chunks.by_sequence(old.transpose(1, 2))


def _scan(
    M: torch.Tensor, d_first: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores entering each chunk (sequence, chunk, state), the best score and its end state."""
    n_chunks = M.shape[1]
    d = d_first.new_empty(n_chunks + 1, *d_first.shape)
    d[0] = d_first
    for step, matrix in enumerate(M.unbind(1)):
        torch.amax(d[step].unsqueeze(-1) + matrix, 1, out=d[step + 1])
    score, last = d[-1].max(-1)
    return d[:-1].transpose(0, 1), score, last


def _point_back(
    ll: torch.Tensor, log_P: torch.Tensor, d: torch.Tensor, chunks: Chunks
) -> torch.Tensor:
    """For each bin and state the best state one bin before: (step, G, K, N) int64."""
    back = torch.empty(ll.shape, dtype=torch.int64, device=ll.device)
    table = log_P[..., None]  # (G, from, to, 1)
    best = torch.empty_like(ll[0])
    stay = torch.arange(ll.shape[2], device=ll.device)[:, None].expand_as(best)
    for step, (ll_t, back_t) in enumerate(zip(ll.unbind(0), back.unbind(0), strict=True)):
        torch.max(d.unsqueeze(2) + table, 1, out=(best, back_t))
        best += ll_t
        chunks.hold(step, best, d)
        chunks.hold(step, back_t, stay)
        d, best = best, torch.empty_like(best) if step == 0 else d
    return back


def _walk(back: torch.Tensor, chunks: Chunks) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow the pointers from every end state: states (step, G, K, N), and those before."""
    W = torch.empty_like(back)
    stay = torch.arange(back.shape[2], device=back.device)[:, None]
    at = stay.expand_as(back[0]).contiguous()
    for step in range(back.shape[0] - 1, -1, -1):
        W[step] = at
        at = back[step].gather(1, at)
    return W, chunks.by_sequence(at)


def _link(before: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Join the chunks from the last one back: end states (sequence, chunk), first state."""
    ends = [last]
    for at in before.flip(1).unbind(1):
        ends.append(at.gather(1, ends[-1][:, None])[:, 0])
    return torch.stack(ends[-2::-1], 1), ends[-1]
