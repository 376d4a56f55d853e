"""What forward-backward and Viterbi share: the contract of a Markov chain's inputs."""

from __future__ import annotations

import torch

ROW_SUM_TOLERANCE = 1e-4


def check_chain(
    op: str,
    log_likelihood: torch.Tensor,
    transition: torch.Tensor,
    initial: torch.Tensor,
    lengths: torch.Tensor | None,
) -> torch.Tensor | None:
    """Check shapes, dtypes and, on the CPU, values of one call; return the lengths as int64.

    Parameters
    ----------
    op : str
        Name of the op, for messages.
    log_likelihood : (sequence, time, state), nats
        Float32 or float64.
    transition : (state, state) or (sequence, state, state), probability
        Row = from, column = to.
    initial : (state,) or (sequence, state), probability
        Distribution of the first bin's state.
    lengths : (sequence,), bins, or None
        None means that every sequence fills all bins.

    Returns
    -------
    (sequence,) int64 on the device of ``log_likelihood``, or None

    Raises
    ------
    ValueError
        On any departure from the above.

    Notes
    -----
    Values of CUDA tensors are not read: that would stall the stream and forbid graphs.
    """
    ll = log_likelihood
    if ll.ndim != 3 or ll.shape[0] < 1 or ll.shape[1] < 1 or ll.shape[2] < 1:
        raise ValueError(
            f"{op}: log_likelihood has shape {tuple(ll.shape)}, expected (sequence, time, state) "
            "without empty axes; add the sequence axis with log_likelihood[None]"
        )
    if ll.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{op}: log_likelihood is {ll.dtype}, expected float32 or float64; "
            "convert it with .float()"
        )
    n_sequences, n_bins, n_states = ll.shape
    _check_table(op, "transition", transition, ll, (n_states, n_states))
    _check_table(op, "initial", initial, ll, (n_states,))
    if lengths is not None:
        lengths = torch.as_tensor(lengths)
        if lengths.shape != (n_sequences,) or lengths.is_floating_point():
            raise ValueError(
                f"{op}: lengths has shape {tuple(lengths.shape)} and dtype {lengths.dtype}, "
                f"expected {n_sequences} integers, one a sequence"
            )
        if not lengths.is_cuda and not bool(((lengths >= 1) & (lengths <= n_bins)).all()):
            raise ValueError(
                f"{op}: lengths lie in [{int(lengths.min())}, {int(lengths.max())}], expected "
                f"1 to {n_bins} (the bins of log_likelihood); drop empty sequences before the call"
            )
        lengths = lengths.to(device=ll.device, dtype=torch.int64)
    return lengths


def _check_table(
    op: str, name: str, table: torch.Tensor, ll: torch.Tensor, shape: tuple[int, ...]
) -> None:
    """Check one probability table, shared or one a sequence, whose last axis sums to 1."""
    if table.shape not in (shape, (ll.shape[0], *shape)):
        raise ValueError(
            f"{op}: {name} has shape {tuple(table.shape)}, expected {shape} or "
            f"{(ll.shape[0], *shape)} to go with log_likelihood {tuple(ll.shape)}"
        )
    if table.dtype != ll.dtype or table.device != ll.device:
        raise ValueError(
            f"{op}: {name} is {table.dtype} on {table.device}, expected {ll.dtype} on "
            f"{ll.device} as log_likelihood; convert it with .to(log_likelihood)"
        )
    if table.is_cuda:
        return
    values = table.detach()
    gap = float((values.sum(-1) - 1).abs().max())
    if not gap <= ROW_SUM_TOLERANCE or float(values.min()) < 0:
        raise ValueError(
            f"{op}: {name} must hold probabilities whose last axis sums to 1; found a smallest "
            f"entry of {float(values.min()):.3g} and a sum off by {gap:.3g}; normalise it first"
        )


def check_possible(op: str, score: torch.Tensor) -> None:
    """Raise when a sequence's score, one a sequence, is not finite; CPU only."""
    if score.is_cuda:
        return
    wrong = ~torch.isfinite(score)
    if not bool(wrong.any()):
        return
    first = int(wrong.nonzero()[0, 0])
    if float(score[first]) == float("-inf"):
        cause = (
            "it is impossible under the model; look for bins where every reachable state has -inf"
        )
    else:
        cause = (
            "log_likelihood must hold neither NaN nor +inf; pass a missing bin as a row of zeros"
        )
    raise ValueError(f"{op}: sequence {first} has score {float(score[first])}: {cause}")
