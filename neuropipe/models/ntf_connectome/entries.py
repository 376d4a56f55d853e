"""The tensor time x animal x pair as it is held: stored or as derivatives, with what is missing.

Legend: K starts, L rows (one animal at one time), T times, W animals, P pairs, N units, R
components. A row has a kind, which says which of the units it shows; a pair is observed in a row
where both units are, and a missing entry enters no sum. Of several processes each holds the rows of
its own animals, and sums over rows are sums over processes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from neuropipe_kernels import ntf_padded, ntf_sweep
from neuropipe_kernels.ntf_sweep.reference import OFFSET, row_length

from neuropipe.models.ntf_connectome.affinity import all_pairs, energy
from neuropipe.training.processes import count, reduce_max, reduce_sum, share

# Pairs that are handled at once where each has a Gram matrix of its own.
CHUNK = 2**14
# Numbers that are made at once when affinities are stored.
BLOCK = 2**22
# Kinds of units whose pairs' Gram matrices are kept as a table.
FEW = 24


@dataclass(frozen=True, eq=False)
class Entries:
    """Affinities and where they were observed.

    Attributes
    ----------
    data : (row, unit) or (row, pair)
        Derivatives, or stored affinities; zero where missing. Rows are ordered by animal. 8-bit
        codes are int8, 128 subtracted.
    form : str
        Of the affinity, or ``stored``.
    time : (row,) int64
        Position on the common clock; different within an animal.
    n_times : int
    rows_of : tuple of slice
        Rows of each animal.
    kind : (row,) int64
        Row of `present`.
    present : (kind, unit) bool
    energy : (row,) float64
        Sum of squared affinities of each row.
    scale : float
        Step of 8-bit codes, else 1.
    cells : (row, pair), optional
        1 where a single entry was observed; stored affinities only.
    turned : (row, pair), optional
        The codes again in memory of pairs, which sums over rows read; on CUDA only, where codes
        then take two bytes an entry.
    """

    data: torch.Tensor
    form: str
    time: torch.Tensor
    n_times: int
    rows_of: tuple[slice, ...]
    kind: torch.Tensor
    present: torch.Tensor
    energy: torch.Tensor
    scale: float = 1.0
    cells: torch.Tensor | None = None
    turned: torch.Tensor | None = None

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        if self.form == "stored":
            return self.data.shape[1]
        n_units = self.present.shape[1]
        return n_units * (n_units - 1) // 2

    @cached_property
    def total(self) -> float:
        """Sum of squared affinities."""
        return float(reduce_sum(self.energy.sum()))

    @cached_property
    def animal(self) -> torch.Tensor:
        """Animal of each row."""
        number = [s.stop - s.start for s in self.rows_of]
        which = torch.arange(len(number), device=self.time.device)
        return which.repeat_interleave(torch.tensor(number, device=self.time.device))

    @cached_property
    def complete(self) -> bool:
        """Whether every animal shows every unit at every time."""
        n_rows = int(reduce_sum(torch.tensor(len(self.time))))
        full = n_rows == self.n_times * len(self.rows_of)
        return full and self.cells is None and bool(self.present.all())

    @cached_property
    def units(self) -> tuple[torch.Tensor, torch.Tensor]:
        """First and second unit of each pair."""
        n = self.present.shape[1]
        i, j = torch.triu_indices(n, n, 1, device=self.present.device)
        return i, j

    @cached_property
    def pair_groups(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Group of each pair, and the kinds (group, kind) that show it; None for many groups."""
        of_unit, unit_class = torch.unique(self.present.T, dim=0, return_inverse=True)
        n = len(of_unit)
        if n > FEW:
            return None
        i, j = self.units
        shown = (of_unit[:, None] & of_unit[None, :]).reshape(n * n, -1)
        return unit_class[i] * n + unit_class[j], shown

    # contractions

    def over_pairs(self, pair: torch.Tensor) -> torch.Tensor:
        """Sum X times a pair factor (start, pair, component): (start, row, component)."""
        return self._contract(pair, "pair")

    def over_rows(self, row: torch.Tensor) -> torch.Tensor:
        """Sum X times a factor of rows (start, row, component): (start, pair, component)."""
        return reduce_sum(self._contract(row, "row"))

    def _contract(self, factor: torch.Tensor, over: str) -> torch.Tensor:
        n_starts, n, rank = factor.shape
        columns = factor.permute(1, 0, 2).reshape(n, n_starts * rank)
        data = self.data if self.turned is None or over == "pair" else self.turned
        out = ntf_sweep(data, columns, over=over, form=self.form, scale=self.scale)
        return out.view(-1, n_starts, rank).permute(1, 0, 2)

    def rows(self, time: torch.Tensor, animal: torch.Tensor) -> torch.Tensor:
        """Return the product of time and animal factors in every row, (start, row, component)."""
        return time[:, self.time] * animal[:, self.animal]

    def to_time(self, row: torch.Tensor) -> torch.Tensor:
        """Sum (start, row, ...) over animals: (start, time, ...)."""
        out = row.new_zeros(len(row), self.n_times, *row.shape[2:])
        for part in self.rows_of:  # no time comes twice in an animal, so order does not matter
            out[:, self.time[part]] += row[:, part]
        return reduce_sum(out)

    def to_animal(self, row: torch.Tensor) -> torch.Tensor:
        """Sum (start, row, ...) over times: (start, animal, ...)."""
        return reduce_sum(torch.stack([row[:, part].sum(1) for part in self.rows_of], 1))

    # Gram matrices over the observed entries

    def gram_of_pairs(self, pair: torch.Tensor) -> torch.Tensor:
        """Return sum_p c_p c_p^T of the pairs that each kind shows, (start, kind, R, R)."""
        if self.cells is not None:
            return _outer(self.cells.to(pair.dtype), pair)
        if bool(self.present.all()):
            return (pair.mT @ pair)[:, None].expand(-1, len(self.present), -1, -1)
        i, j = self.units
        out = pair.new_zeros(len(pair), len(self.present), pair.shape[2], pair.shape[2])
        for start in range(0, self.n_pairs, 64 * CHUNK):
            part = slice(start, start + 64 * CHUNK)
            for kind, seen in enumerate(self.present):
                c = pair[:, part] * (seen[i[part]] & seen[j[part]])[:, None]
                out[:, kind] += c.mT @ c
        return out

    def gram_of_rows(self, row: torch.Tensor) -> torch.Tensor:
        """Return sum_l k_l k_l^T over the rows of each kind, (start, kind, R, R)."""
        if self.cells is not None:
            return row[..., :, None] * row[..., None, :]
        if len(self.present) == 1:
            return reduce_sum((row.mT @ row)[:, None])
        out = row.new_empty(len(row), len(self.present), row.shape[2], row.shape[2])
        for kind in range(len(self.present)):
            k = row[:, self.kind == kind]
            out[:, kind] = k.mT @ k
        return reduce_sum(out)

    def gram_of_time(self, animal: torch.Tensor, of_pairs: torch.Tensor) -> torch.Tensor:
        """Return the Gram matrices that the time mode needs, (start, 1 or time, R, R)."""
        if self.complete:
            return (animal.mT @ animal)[:, None] * of_pairs[:, :1]
        return torch.cat([
            self.to_time(_square(animal[k, self.animal]) * of_pairs[k : k + 1, self.kind])
            for k in range(len(animal))
        ])  # fmt: skip

    def gram_of_animal(self, time: torch.Tensor, of_pairs: torch.Tensor) -> torch.Tensor:
        """Return the Gram matrices that the animal mode needs, (start, 1 or animal, R, R)."""
        if self.complete:
            return (time.mT @ time)[:, None] * of_pairs[:, :1]
        return torch.cat([
            self.to_animal(_square(time[k, self.time]) * of_pairs[k : k + 1, self.kind])
            for k in range(len(time))
        ])  # fmt: skip

    # copies of the same entries

    def stored(self, how: str) -> Entries:
        """Return the same entries with affinities made once, ``stored`` or as 8-bit ``codes``.

        Codes take a byte an entry, two on CUDA; both copies are filled without one in floats.
        """
        kind = torch.int8 if how == "codes" else self.data.dtype
        # rows begin at whole vectors of memory
        wide = row_length(self.n_pairs, kind)
        out = torch.zeros(len(self.data), wide, dtype=kind, device=self.data.device)
        out = out[:, : self.n_pairs]
        step = max(1, BLOCK // max(self.n_pairs, 1))
        top = 1.0
        if how == "codes":
            peaks = [float(all_pairs(d, self.form).max()) for d in self.data.split(step)]
            top = max(reduce_max(max(peaks)) / 255, torch.finfo(self.data.dtype).tiny)
        squares = []
        for start in range(0, len(out), step):
            made = all_pairs(self.data[start : start + step], self.form)
            if how == "codes":
                made = (made / top).round_()
            squares.append((made.double() * top).square().sum(1))
            out[start : start + step] = made - OFFSET if how == "codes" else made
        return replace(
            self, data=out, form="stored", energy=torch.cat(squares), scale=top,
            turned=ntf_padded(out.T).T if how == "codes" and out.is_cuda else None,
        )  # fmt: skip

    def only(self, keep: torch.Tensor) -> Entries:
        """Return the entries of some rows (row,) bool; times and animals keep their numbers."""
        ends, first = [0, *torch.cumsum(keep.cpu(), 0).tolist()], []
        for part in self.rows_of:
            first.append(slice(ends[part.start], ends[part.stop]))
        data, turned = self.data[keep], None
        # both kinds of rows begin at whole vectors of memory again
        if self.turned is not None:
            data, turned = ntf_padded(data), ntf_padded(data.T).T
        return replace(
            self, data=data, time=self.time[keep], rows_of=tuple(first),
            kind=self.kind[keep], energy=self.energy[keep],
            cells=None if self.cells is None else self.cells[keep], turned=turned,
        )  # fmt: skip

    def share(self) -> Entries:
        """Return the rows of this process's animals; sums over rows are then over all processes."""
        if count() == 1:
            return self
        own = share(range(len(self.rows_of)))
        return self.only((self.animal >= own.start) & (self.animal < own.stop))

    def hidden(self, block: torch.Tensor, hide: torch.Tensor) -> Entries:
        """Return the entries without some units in some rows.

        Parameters
        ----------
        block : (row,) int64
            Number of a row of `hide`, blocks of time in an animal.
        hide : (block, unit) bool
            Units that are treated as missing there.
        """
        if self.form == "stored":
            raise ValueError("hidden: works on derivatives; hide first, store then")
        both = torch.stack([self.kind, block], 1)
        pairs, kind = torch.unique(both, dim=0, return_inverse=True)
        present = self.present[pairs[:, 0]] & ~hide[pairs[:, 1]]
        data = self.data * present[kind]
        return replace(
            self, data=data, kind=kind, present=present, energy=energy(data, self.form)
        )  # fmt: skip


def _square(factor: torch.Tensor) -> torch.Tensor:
    """Return the outer product of each row of one start with itself, (1, row, R, R)."""
    return (factor[:, :, None] * factor[:, None, :])[None]


def _outer(weight: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return weight (n, m) times the outer squares of factor (start, m, R): (start, n, R, R)."""
    rank = factor.shape[2]
    return torch.cat([
        (weight @ _square(f)[0].flatten(1)).view(1, -1, rank, rank) for f in factor
    ])  # fmt: skip


def of_tensor(x: torch.Tensor, observed: torch.Tensor | None = None) -> Entries:
    """Hold any dense tensor; its last mode need not be the pairs of units.

    Parameters
    ----------
    x : (time, animal, pair)
    observed : (time, animal, pair) bool, optional
        False for entries to be left out.
    """
    n_times, n_animals, n_pairs = x.shape
    rows = x.transpose(0, 1).reshape(n_animals * n_times, n_pairs)
    cells = None
    if observed is not None:
        cells = observed.transpose(0, 1).reshape(rows.shape).to(x.dtype)
        rows = torch.where(cells > 0, rows, 0.0)
    # some rows at once: no copy of everything in double precision
    step = max(1, BLOCK // max(n_pairs, 1))
    squares = torch.cat([part.double().square().sum(1) for part in rows.split(step)])
    return Entries(
        rows, "stored", torch.arange(n_times).repeat(n_animals).to(x.device), n_times,
        tuple(slice(w * n_times, (w + 1) * n_times) for w in range(n_animals)),
        torch.arange(len(rows), device=x.device)
        if cells is not None
        else torch.zeros(len(rows), dtype=torch.int64, device=x.device),
        torch.ones(1, 1, dtype=torch.bool, device=x.device),
        squares, 1.0, cells,
    )  # fmt: skip
