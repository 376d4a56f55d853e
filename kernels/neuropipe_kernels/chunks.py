"""Cut sequences into equal chunks of time, so that all chunks can advance together.

Bin 0 of a sequence is an initial value and stays outside; the other bins, one transition
each, are split into chunks whose lengths differ by at most one bin. Arrays over chunks are
laid out (step, group, state, column): columns are contiguous, so every operation of the
time loop runs over long rows. A group shares one transition matrix: all sequences form
one group when the matrix is shared, else each sequence is a group.
"""

from __future__ import annotations

import torch


class Chunks:
    """Where each bin of a batch of sequences sits in the chunked layout.

    Parameters
    ----------
    lengths : (sequence,) int64 or None
        Bins of each sequence; None when all fill ``n_bins``.
    n_sequences, n_bins : int
        Shape of the padded batch.
    grouped : bool
        True when each sequence is a group of its own.
    n_chunks : int
        Chunks of each sequence.
    device : torch.device
        Where the index tables live.
    """

    def __init__(
        self,
        lengths: torch.Tensor | None,
        n_sequences: int,
        n_bins: int,
        grouped: bool,
        n_chunks: int,
        device: torch.device,
    ) -> None:
        self.n_sequences, self.n_bins, self.n_chunks = n_sequences, n_bins, n_chunks
        self.n_groups = n_sequences if grouped else 1
        if lengths is None:
            lengths = torch.full((n_sequences,), n_bins, dtype=torch.int64, device=device)
        self.lengths = lengths
        edges = torch.arange(n_chunks + 1, device=device)
        n_moves = lengths[:, None] - 1
        # The longer chunks come first, so that a short sequence fills its first chunks.
        start = edges * (n_moves // n_chunks) + torch.minimum(edges, n_moves % n_chunks)
        size = start[:, 1:] - start[:, :-1]  # (sequence, chunk)
        self.n_steps = int(size.max())
        self.full_steps = int(size.min())
        step = torch.arange(self.n_steps, device=device)[:, None, None]
        first = start[:, :-1] + 1 + torch.arange(n_sequences, device=device)[:, None] * n_bins
        rows = (first + step).flatten(1)
        valid = (step < size).view(self.n_steps, self.n_groups, 1, rows.shape[1] // self.n_groups)
        self.ragged = self.full_steps < self.n_steps
        self.rows = rows.clamp_(max=n_sequences * n_bins - 1) if self.ragged else rows
        # Only the steps that some chunk does not reach need a mask.
        self.valid = valid[self.full_steps :]

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Bring (sequence, time, state) to (step, group, state, column), zero past the ends."""
        n_states = x.shape[-1]
        out = x.reshape(-1, n_states).index_select(0, self.rows.view(-1))
        out = out.view(self.n_steps, self.n_groups, -1, n_states).transpose(2, 3).contiguous()
        if self.ragged:
            out[self.full_steps :].masked_fill_(~self.valid, 0)
        return out

    def scatter(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """Write (step, group, state, column) into ``out`` (sequence, time, state), in place."""
        n_states = x.shape[2]
        flat = out.view(-1, n_states)
        values = x.transpose(2, 3).reshape(-1, n_states).to(out.dtype)
        rows = self.rows.view(-1)
        if self.ragged:
            full = self.full_steps * self.rows.shape[1]
            keep = self.valid.reshape(-1).nonzero()[:, 0]
            flat.index_copy_(0, rows[full:][keep], values[full:][keep])
            rows, values = rows[:full], values[:full]
        flat.index_copy_(0, rows, values)

    def hold(self, step: int, new: torch.Tensor, old: torch.Tensor) -> None:
        """Put ``old`` back into ``new`` in columns whose chunk has ended before ``step``.

        Both are (group, state, column) or (group, state, state, column).
        """
        if step >= self.full_steps:
            ended = ~self.valid[step - self.full_steps]
            ended = ended if new.ndim == 3 else ended[:, None]
            torch.where(ended, old, new, out=new)

    def by_sequence(self, x: torch.Tensor) -> torch.Tensor:
        """View (group, ..., column) as (sequence, chunk, ...)."""
        if self.n_groups == 1:
            x = x[0].unflatten(-1, (self.n_sequences, self.n_chunks))
            return x.movedim((-2, -1), (0, 1))
        return x.movedim(-1, 1)

    def by_column(self, x: torch.Tensor) -> torch.Tensor:
        """View (sequence, chunk, state) as (group, state, column)."""
        if self.n_groups == 1:
            return x.flatten(0, 1).transpose(0, 1)[None]
        return x.transpose(1, 2)


def n_chunks_for(n_sequences: int, n_bins: int) -> int:
    """Choose the chunks of a sequence so that the number of torch calls is near its least.

    The time loop costs about four times what the scan over chunks costs per step; with many
    sequences the columns are long anyway and fewer chunks spare the transfer matrices.
    """
    if n_sequences >= 512 or n_bins < 8:
        return 1
    return max(1, int(2 * (n_bins / max(1, n_sequences / 16)) ** 0.5))
