"""Du-IN's door: voltages of a fold in, batches of tensors out, each a function of its epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuropipe.batching.door import Door
from neuropipe.batching.epochs import Voltages
from neuropipe.models.du_in.config import Common
from neuropipe.models.du_in.model import Sizes, shifted
from neuropipe.runtime import generator
from neuropipe.training.processes import share

LONGEST_S = 4.0  # of a window, unless the configuration says another length: the paper's


# ``x (B, T, C)``, ``subject (B,)`` and, with labels, ``y (B,)``.
Batch = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Bank:
    """All sessions' voltages on the device.

    Attributes
    ----------
    value : (sample, contact) float32
        Sessions end to end; zeros in contacts that a subject lacks.
    present : (subject, contact) bool
    subjects : tuple of str
    """

    value: Tensor
    present: Tensor
    subjects: tuple[str, ...]

    def windows(self, start: np.ndarray, subject: np.ndarray, length: int) -> Batch:
        """Return windows that begin at samples of the bank."""
        first = torch.as_tensor(start).to(self.value.device)
        at = first[:, None] + torch.arange(length, device=self.value.device)
        return {"x": self.value[at], "subject": torch.as_tensor(subject).to(first.device)}


@dataclass(frozen=True)
class Index:
    """Windows or trials of a bank.

    Attributes
    ----------
    start : (window,) int64
        First sample in the bank.
    subject : (window,) int64
    room : (window,) int64
        By how many samples a window may begin later.
    y : (window,) int64
        Class, -1 without one.
    """

    start: np.ndarray
    subject: np.ndarray
    room: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def of(self, keep: np.ndarray) -> Index:
        """Return some of them."""
        return Index(*(getattr(self, name)[keep] for name in ("start", "subject", "room", "y")))


def bank_of(
    found: Sequence[Voltages], subjects: Sequence[str], widest: int, device: torch.device
) -> Bank:
    """Lay sessions end to end on the device; `widest` is the most contacts of any subject."""
    most = {v.subject: len(v.channel) for v in found}
    value = np.zeros((sum(len(v.value) for v in found), widest), np.float32)
    first = 0
    for v in found:
        value[first : first + len(v.value), : len(v.channel)] = v.value
        first += len(v.value)
    present = np.arange(widest) < np.array([most.get(s, 0) for s in subjects])[:, None]
    return Bank(
        torch.as_tensor(value).to(device), torch.as_tensor(present).to(device), tuple(subjects)
    )


def _index(
    found: Sequence[Voltages], subjects: Sequence[str], rows: Callable[[Voltages], list[np.ndarray]]
) -> Index:
    """Gather (start, room, y) of every session, starts counted in the bank."""
    parts, first = [], 0
    for v in found:
        start, room, y = rows(v)
        owner = np.full(len(start), subjects.index(v.subject))
        parts.append([start + first, owner, room, y])
        first += len(v.value)
    return Index(*(np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True)))


def window_index(
    found: Sequence[Voltages], subjects: Sequence[str], length: int, step: int
) -> Index:
    """Return windows of `length` samples, `step` apart; each may begin up to `step` later.

    `found` are all sessions of the bank, in its order, perhaps with fewer stretches.
    """

    def rows(v: Voltages) -> list[np.ndarray]:
        start = v.starts(length, step)
        end = v.edge[np.searchsorted(v.edge[:, 0], start, side="right") - 1, 1]
        room = np.minimum(end - start - length, step - 1)
        return [start, room, np.full(len(start), -1)]

    return _index(found, subjects, rows)


def trial_index(found: Sequence[Voltages], subjects: Sequence[str], door: Door) -> Index:
    """Return the trials; those whose label the training data did not show have class -1."""

    def rows(v: Voltages) -> list[np.ndarray]:
        y = np.where(door.known(v), door.number(v.label), -1)
        return [v.onset, np.zeros(len(y), np.int64), y]

    return _index(found, subjects, rows)


def window_samples(config: Common, found: Sequence[Voltages], patch: int, trial: int) -> int:
    """Return the samples of an unlabelled window, whole patches.

    Without a setting: 4 s, or a trial's length where most of the data lie in stretches shorter
    than twice that.
    """
    rate = found[0].rate_hz
    if config.window_s is not None:
        return max(1, round(config.window_s * rate) // patch) * patch
    long = max(1, round(LONGEST_S * rate) // patch) * patch
    size = np.concatenate([v.edge[:, 1] - v.edge[:, 0] for v in found])
    return long if size[size >= 2 * long].sum() >= size.sum() / 2 else trial


def sizes_of(config: Common, n_subjects: int, n_contacts: int, patch: int) -> Sizes:
    """Return the shapes of the networks."""
    c = config
    return Sizes(
        n_subjects, n_contacts, c.n_hidden, patch, c.filters, c.kernels, c.strides, c.n_layers,
        c.n_heads, c.head_dim, c.n_inner, c.dropout, c.n_codes, c.code_dim, c.decay, c.revival,
        c.decoder_layers, c.decoder_filters, c.head_width, c.tokenizer == "nonlinear",
        c.norm_first, c.initial == "published",
    )  # fmt: skip


def per_epoch(n: int, batch_size: int) -> int:
    """Return how many batches an epoch has; what does not fill a batch waits for another epoch."""
    return max(1, n // batch_size)


def unlabelled(
    bank: Bank, index: Index, length: int, batch_size: int, grid: int, *, seed: int, stage: str
) -> Callable[[int], Iterator[Batch]]:
    """Return the batches of an epoch: windows in random order, begun at random in their room.

    Parameters
    ----------
    bank, index
    length : int
        Samples of a window.
    batch_size : int
    grid : int
        Windows begin at multiples of it from where they stand.
    seed, stage
        Of the random order.
    """

    def batches(epoch: int) -> Iterator[Batch]:
        rng = generator(seed, f"{stage}-{epoch}")
        start = index.start + rng.integers(0, index.room // grid + 1) * grid
        order = rng.permutation(len(index))
        for part in _parts(order, batch_size):
            yield bank.windows(start[part], index.subject[part], length)

    return batches


def labelled(
    bank: Bank, index: Index, length: int, batch_size: int, most: int, *, seed: int, stage: str
) -> Callable[[int], Iterator[Batch]]:
    """Return the batches of an epoch: trials in random order, shifted by up to `most` samples."""

    def batches(epoch: int) -> Iterator[Batch]:
        rng = generator(seed, f"{stage}-{epoch}")
        by = rng.integers(-most, most + 1, len(index))
        order = rng.permutation(len(index))
        for part in _parts(order, batch_size):
            batch = bank.windows(index.start[part], index.subject[part], length)
            device = batch["x"].device
            moved = (
                shifted(batch["x"], torch.as_tensor(by[part]).to(device)) if most else batch["x"]
            )
            yield {**batch, "x": moved, "y": torch.as_tensor(index.y[part]).to(device)}

    return batches


def _parts(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for number in range(per_epoch(len(order), size)):
        yield share(order[number * size : (number + 1) * size])


def in_turn(bank: Bank, index: Index, length: int, size: int = 64) -> Iterator[Batch]:
    """Yield all windows or trials in order, unshifted."""
    for start in range(0, len(index), size):
        part = slice(start, start + size)
        batch = bank.windows(index.start[part], index.subject[part], length)
        yield {**batch, "y": torch.as_tensor(index.y[part]).to(batch["x"].device)}
