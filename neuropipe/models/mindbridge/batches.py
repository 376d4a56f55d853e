"""MindBridge's door: trials and features as tensors, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuropipe.batching.stimuli import Codes, StimulusSource, Subject, averaged
from neuropipe.models.mindbridge.aggregate import pool
from neuropipe.models.mindbridge.config import Config
from neuropipe.runtime import generator
from neuropipe.training.processes import share


def source_of(config: Config) -> StimulusSource:
    """Return what a configuration says of the data."""
    c = config
    return StimulusSource(c.column, c.image, c.text, c.missing, c.n_voxels)


@dataclass(frozen=True)
class Patterns:
    """One subject's training patterns, voxels or bins, by stimulus.

    Attributes
    ----------
    name : str
    row : (stimulus,)
        Rows of the codes.
    mean : (stimulus, voxel)
        Mean over the trials of a stimulus.
    trial : (trial, voxel)
    of : (stimulus, repeat)
        Its trials, the first ones again where there are fewer.
    number : (stimulus,)
    n_voxels : int
        Before pooling.
    """

    name: str
    row: Tensor
    mean: Tensor
    trial: Tensor
    of: Tensor
    number: Tensor
    n_voxels: int

    def only(self, kept: Tensor) -> Patterns:
        """Return the patterns of some stimuli, (stimulus,) bool; trials stay in memory."""
        return Patterns(self.name, self.row[kept], self.mean[kept], self.trial, self.of[kept],
                        self.number[kept], self.n_voxels)  # fmt: skip


def pooled(response: np.ndarray, config: Config) -> Tensor:
    """Return trials (trial, voxel), pooled where the aggregation is a pooling."""
    x = torch.as_tensor(response)
    if config.aggregation == "linear":
        return x
    return pool(x, config.common_size, config.aggregation)


def patterns_of(subject: Subject, config: Config, device: torch.device) -> Patterns:
    """Return a subject's trials as tensors; pooled first, then averaged.

    Where each trial is a sample, it stands as a stimulus of its own, with the row of its class.
    """
    trial = pooled(subject.response, config)
    if config.samples == "trial":
        each = torch.arange(len(trial), device=device)
        own = trial.to(device)
        return Patterns(
            subject.name, torch.as_tensor(subject.row).to(device), own, own, each[:, None],
            torch.ones_like(each), subject.response.shape[1],
        )  # fmt: skip
    row, mean, number = averaged(trial.numpy(), subject.row)
    of = np.zeros((len(row), number.max()), dtype=int)
    for place, r in enumerate(row):
        of[place] = np.resize(np.flatnonzero(subject.row == r), of.shape[1])
    return Patterns(
        subject.name, torch.as_tensor(row).to(device),
        torch.as_tensor(mean, dtype=torch.float32).to(device), trial.to(device),
        torch.as_tensor(of).to(device), torch.as_tensor(number).to(device),
        subject.response.shape[1],
    )  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """Embeddings to predict: of length 1, by name of the head.

    Attributes
    ----------
    value : mapping of head to (stimulus, feature)
        Centred where the configuration says so, and of length 1 again.
    mean : mapping of head to (feature,)
        What was subtracted.
    length : mapping of head to float
        Mean length after that, 1 without centring.
    """

    value: Mapping[str, Tensor]
    mean: Mapping[str, Tensor]
    length: Mapping[str, float]


def unit_codes(codes: Codes, device: torch.device) -> dict[str, Tensor]:
    """Return the features of stimuli, each of length 1."""
    both = {"image": codes.image, "text": codes.text}
    return {
        name: F.normalize(torch.as_tensor(value, dtype=torch.float32).to(device), dim=1)
        for name, value in both.items()
        if value is not None
    }


def targets_of(unit: Mapping[str, Tensor], rows: Tensor, center: bool) -> Targets:
    """Centre embeddings on the training stimuli alone.

    Parameters
    ----------
    unit : mapping of head to (stimulus, feature)
        From `unit_codes`, all stimuli.
    rows : (training stimulus,)
    center : bool
    """
    mean = {
        name: value[rows].mean(0) if center else torch.zeros_like(value[0])
        for name, value in unit.items()
    }
    centred = {name: value - mean[name] for name, value in unit.items()}
    return Targets(
        {name: F.normalize(value, dim=1) for name, value in centred.items()}, mean,
        {name: float(value[rows].norm(dim=1).mean()) for name, value in centred.items()},
    )  # fmt: skip


def n_batches(
    data: Sequence[Patterns], batch_size: int, into: int | None = None
) -> tuple[int, int]:
    """Return batches of an epoch and stimuli of each subject in one.

    An epoch shows all stimuli of the subject with most, or of the new one in an adaptation; others
    come again or in part, so that every batch holds as many of each.
    """
    most = max(len(p.row) for p in data) if into is None else len(data[into].row)
    size = min(batch_size, most)
    return -(-most // size), size


def epoch_batches(
    data: Sequence[Patterns], targets: Targets, batch_size: int, repeats: str, *, seed: int,
    stage: str, epoch: int, into: int | None = None,
) -> Iterator[dict[str, Tensor]]:  # fmt: skip
    """Yield the batches of an epoch, a function of its number alone.

    Yields
    ------
    dict
        ``x0``, ``x1``... (sample, voxel) of each subject; ``image`` and perhaps ``text`` (subject x
        sample, feature), subjects one after the other; ``pair`` (2,), two subjects, different ones
        where there are several; ``epoch``.
    """
    n, size = n_batches(data, batch_size, into)
    rng = generator(seed, f"{stage}-{epoch}")
    orders, chosen = [], []
    for p in data:
        shuffled = [rng.permutation(len(p.row)) for _ in range(-(-n * size // len(p.row)))]
        orders.append(np.concatenate(shuffled)[: n * size])
        chosen.append(rng.integers(0, 2**31, n * size))
    for number in range(n):
        part = slice(number * size, (number + 1) * size)
        batch: dict[str, Tensor] = {"epoch": torch.tensor(epoch)}
        rows = []
        for s, p in enumerate(data):
            at = torch.as_tensor(share(orders[s][part]), device=p.row.device)
            rows.append(p.row[at])
            if repeats == "average":
                batch[f"x{s}"] = p.mean[at]
                continue
            repeat = torch.as_tensor(share(chosen[s][part]), device=at.device) % p.number[at]
            batch[f"x{s}"] = p.trial[p.of[at, repeat]]
        row = torch.cat(rows)
        batch |= {name: value[row] for name, value in targets.value.items()}
        several = len(data) > 1
        batch["pair"] = torch.as_tensor(rng.choice(len(data), 2, replace=not several))
        yield batch
