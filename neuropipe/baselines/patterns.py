"""Patterns of neuron pairs that a baseline has learned: applied, scored, kept as the NTF's are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from neuropipe_kernels import ntf_sweep, ntf_update
from neuropipe_kernels.ntf_sweep.reference import affinity

from neuropipe.baselines.config import TraceConfig
from neuropipe.batching.derivatives import Derivatives
from neuropipe.batching.trace_door import TraceDoor, enter, source_of
from neuropipe.batching.traces import Traces
from neuropipe.errors import DataError
from neuropipe.schema import Recording

MOST_BYTES = 2**32  # of the whole tensor
ROUNDS = 1000


def affinities(data: np.ndarray, form: str) -> np.ndarray:
    """Return the affinities (row, pair) of derivatives (row, unit)."""
    n = data.shape[1]
    i, j = torch.triu_indices(n, n, 1)
    d = torch.as_tensor(data)
    return affinity(d[:, i], d[:, j], form).numpy()


def tensor_of(d: Derivatives, config: TraceConfig) -> np.ndarray:
    """Return the tensor (time, animal, pair), zero where something is missing.

    Raises
    ------
    DataError
        If it needs more than 4 GiB.
    """
    n_units = d.data.shape[1]
    shape = len(d.window), len(d.rows_of), n_units * (n_units - 1) // 2
    size = 8 * int(np.prod(shape, dtype=float))
    if size > MOST_BYTES:
        raise DataError(
            f"baseline: the tensor of {shape[0]} windows, {shape[1]} animals and {shape[2]} pairs "
            f"needs {size / 2**30:.1f} GiB; use fewer neurons or windows, or leave the baseline out"
        )
    out = np.zeros(shape)
    for w, part in enumerate(d.rows_of):
        out[d.time[part], w] = affinities(d.data[part], config.affinity)
    return out


@dataclass(frozen=True)
class Patterns:
    """Pair patterns and animal loadings, and the door that they were learned through."""

    door: TraceDoor
    derivatives: Derivatives | None  # of the training data, while fitting
    traces: tuple[Traces, ...]  # likewise
    window: np.ndarray
    pair: np.ndarray
    animal: np.ndarray

    @classmethod
    def of(cls, recordings: Sequence[Recording], config: TraceConfig) -> Patterns:
        """Read the training data; factors come later."""
        door, traces, d = enter(recordings, source_of(config))
        return cls(door, d, tuple(traces), d.window, np.zeros((0, 0)), np.zeros((0, 0)))

    @property
    def training(self) -> Derivatives:
        """Derivatives of the training data, which fitted patterns have let go."""
        if self.derivatives is None:
            raise ValueError("patterns: the training data are kept until factors are set only")
        return self.derivatives

    def with_factors(self, pair: np.ndarray, animal: np.ndarray) -> Patterns:
        """Return the same with patterns (pair, component) and loadings (animal, component)."""
        return replace(self, pair=pair, animal=animal, derivatives=None, traces=())

    def labelled(self, time: np.ndarray) -> xr.Dataset:
        """Return patterns, loadings and training activations (time, component)."""
        n = len(self.door.units)
        i, j = np.triu_indices(n, 1)
        folded = np.zeros((self.pair.shape[1], n, n))
        folded[:, i, j] = folded[:, j, i] = self.pair.T
        one, text = {"units": "1"}, {"units": ""}
        units = np.array(self.door.units, dtype=object)
        return xr.Dataset(
            {
                "affinity": (("component", "unit", "source_unit"), folded, one),
                "animal_loading": (("animal", "component"), self.animal, one),
                "activation": (("window", "component"), time, one),
            },
            {
                "unit": ("unit", units, text),
                "source_unit": ("source_unit", units, text),
                "animal": ("animal", np.array(self.door.animals, dtype=object), text),
                "time": ("window", self.door.seconds(self.window), {"units": "s"}),
            },
        )

    def activation(self, recording: Recording, config: TraceConfig) -> tuple[xr.Dataset, float]:
        """Refit activations of a recording by non-negative least squares, all else held.

        Returns
        -------
        estimates : Dataset
            ``activation (window, component)``.
        explained_variance : float
            Over the affinities of the pairs that the recording shows.
        """
        d, place = self.door.read(recording), self.door.place(recording)
        shown = np.flatnonzero(d.present[0])
        i, j = np.triu_indices(len(self.door.units), 1)
        seen = d.present[0][i] & d.present[0][j]
        loading = self.animal.mean(0) if place is None else self.animal[place]
        pattern = torch.as_tensor(self.pair[seen] * loading)
        data = torch.as_tensor(d.data[:, shown])
        product = ntf_sweep(data, pattern, over="pair", form=config.affinity)[None]
        gram = (pattern.T @ pattern)[None, None]
        start = torch.ones_like(product)
        time = ntf_update(product, start, gram, rounds=ROUNDS, floor=0.0)[0]
        total = float(np.square(affinities(data.numpy(), config.affinity)).sum())
        lost = total - 2 * float((product[0] * time).sum()) + float(
            torch.einsum("tr,rs,ts->", time, gram[0, 0], time)
        )  # fmt: skip
        order = np.argsort(d.time)
        estimates = xr.Dataset(
            {"activation": (("window", "component"), time.numpy()[order], {"units": "1"})},
            {"time": ("window", self.door.seconds(d.window), {"units": "s"})},
        )
        return estimates, 1 - lost / total if total > 0 else float("nan")

    def save(self, path: Path, config: TraceConfig, time: np.ndarray) -> None:
        """Write ``config.json``, ``names.json`` and ``weights.npz`` into a folder that exists."""
        (path / "config.json").write_text(config.model_dump_json(indent=1))
        (path / "names.json").write_text(json.dumps(self.door.saved()))
        np.savez(
            path / "weights.npz", pair=self.pair, animal=self.animal, window=self.window, time=time
        )

    @classmethod
    def load(cls, path: Path, config_class: type[TraceConfig]) -> tuple[Patterns, Any, np.ndarray]:
        """Return the patterns, the configuration and the training activations."""
        config = config_class.model_validate_json((path / "config.json").read_text())
        names = json.loads((path / "names.json").read_text())
        with np.load(path / "weights.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        patterns = cls(
            TraceDoor.of(source_of(config), names), None, (), arrays["window"], arrays["pair"],
            arrays["animal"],
        )  # fmt: skip
        return patterns, config, arrays["time"]
