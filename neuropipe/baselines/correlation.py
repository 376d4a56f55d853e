"""Correlation of traces, static or in sliding windows with k-means: what is mostly done today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from sklearn.cluster import KMeans

from neuropipe.baselines.config import CorrelationConfig, WindowedConfig
from neuropipe.baselines.patterns import MOST_BYTES, Patterns
from neuropipe.batching.refusals import NO_PAIR, refuse_unfitted, say_undefined
from neuropipe.batching.traces import Traces
from neuropipe.config import build
from neuropipe.errors import DataError
from neuropipe.runtime import generator
from neuropipe.schema import Recording, Var


def windowed(trace: np.ndarray, length: int | None) -> np.ndarray:
    """Return positive correlations of traces (window, unit), (window, pair).

    Parameters
    ----------
    trace : (window, unit)
    length : int or None
        Of the sliding window, shorter at the edges; None: one window over all, (1, pair).
    """
    i, j = np.triu_indices(trace.shape[1], 1)
    n = len(trace)
    centre = np.arange(n) if length else np.array([0])
    first = np.maximum(centre - (length or 0) // 2, 0)
    last = np.minimum(centre + (length or 0) // 2 + 1, n) if length else np.array([n])
    size = (last - first)[:, None]
    z = trace - trace.mean(0)

    def sums(value: np.ndarray) -> np.ndarray:
        total = np.concatenate([np.zeros((1, value.shape[1])), value.cumsum(0)])
        return total[last] - total[first]

    mean = sums(z) / size
    variance = np.maximum(sums(z**2) / size - mean**2, 0)
    both = sums(z[:, i] * z[:, j]) / size - mean[:, i] * mean[:, j]
    scale = np.sqrt(variance[:, i] * variance[:, j])
    safe = scale > 1e-12 * z.var(0).max()
    return np.where(safe, np.maximum(both, 0) / np.where(safe, scale, 1), 0)


def _shared(found: Patterns, length: int | None) -> np.ndarray:
    """Average correlations over the animals that show a pair at a time, (time, pair)."""
    d = found.training
    n_units = len(found.door.units)
    n_pairs, n_times = n_units * (n_units - 1) // 2, len(d.window) if length else 1
    if 16 * n_times * n_pairs > MOST_BYTES:
        raise DataError(
            f"baseline: correlations of {n_pairs} pairs at {n_times} times do not fit into memory; "
            "use fewer neurons or windows, or leave the baseline out"
        )
    i, j = np.triu_indices(n_units, 1)
    total, number = np.zeros((n_times, n_pairs)), np.zeros((n_times, n_pairs))
    column = {u: k for k, u in enumerate(found.door.units)}
    for w, (animal, rows) in enumerate(zip(found.traces, d.rows_of, strict=True)):
        shown = d.present[w][i] & d.present[w][j]
        value = _of_animal(animal, column, n_units, length)
        at = d.time[rows] if length else np.array([0])
        weight = 1.0 if length else float(rows.stop - rows.start)
        total[at] += weight * value * shown
        number[at] += weight * shown
    return total / np.maximum(number, 1)


def _of_animal(
    animal: Traces, column: Mapping[str, int], n_units: int, length: int | None
) -> np.ndarray:
    blocks = []
    for _, trace in animal.stretches:
        block = np.zeros((len(trace), n_units))
        block[:, [column[u] for u in animal.unit]] = trace
        blocks.append(block)
    parts = blocks if length else [np.concatenate([b - b.mean(0) for b in blocks])]
    return np.concatenate([windowed(b, length) for b in parts])


class StaticCorrelation:
    """One pattern: the positive part of each pair's correlation, averaged over animals.

    Parameters
    ----------
    **settings
        Fields of `CorrelationConfig`.
    """

    reads: ClassVar[tuple[str, ...]] = ("calcium",)
    writes: ClassVar[Mapping[str, Var]] = {
        "activation": Var(("window", "component"), "1", "f", "how active, at each time"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "affinity": Var(("component", "unit", "source_unit"), "1", "f", "patterns"),
        "animal_loading": Var(("animal", "component"), "1", "f", "1: not learned"),
        "activation": Var(("window", "component"), "1", "f", "states of the training windows"),
    }
    config_class: ClassVar[Any] = CorrelationConfig

    def __init__(self, **settings: Any) -> None:
        self.config = build(self.config_class, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Correlate the training windows, on CPU."""
        found = Patterns.of(recordings, self.config)
        pattern, self._time, cost = self._patterns_of(found, seed)
        length = np.maximum(np.linalg.norm(pattern, axis=0), 1e-300)
        self._patterns = found.with_factors(
            pattern / length, np.ones((len(found.door.animals), pattern.shape[1]))
        )
        self.history_ = xr.Dataset(
            {"objective": ("step", [cost], {"units": "1"})}, attrs={"converged": 1}
        )
        return self

    def _patterns_of(self, found: Patterns, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Return patterns (pair, component), activations (time, component) and the objective."""
        return _shared(found, None).T, np.ones((len(found.window), 1)), 0.0

    @property
    def parameters_(self) -> xr.Dataset:
        """Patterns, loadings and activations."""
        return self._patterns.labelled(self._time)

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``activation (window, component)``, patterns held."""
        refuse_unfitted(self, "_patterns")
        return self._patterns.activation(recording, self.config)[0]

    def score(self, recording: Recording) -> dict[str, float]:
        """Return ``explained_variance`` of the affinities, activations refitted as by the model."""
        refuse_unfitted(self, "_patterns")
        value = self._patterns.activation(recording, self.config)[1]
        return say_undefined({"explained_variance": value}, recording, NO_PAIR)

    def save(self, path: Path) -> None:
        """Write the fitted baseline into a folder."""
        refuse_unfitted(self, "_patterns")
        self._patterns.save(path, self.config, self._time)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        patterns, config, time = Patterns.load(path, cls.config_class)
        out = cls(**config.model_dump())
        out._patterns, out._time = patterns, time
        return out


class WindowedCorrelation(StaticCorrelation):
    """Sliding correlations, averaged over animals, in k states by k-means.

    Parameters
    ----------
    **settings
        Fields of `WindowedConfig`.

    Notes
    -----
    Source: Allen et al., "Tracking whole-brain connectivity dynamics in the resting state",
    Cerebral Cortex 2014.
    """

    config_class: ClassVar[Any] = WindowedConfig

    def _patterns_of(self, found: Patterns, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
        c = self.config
        shared = _shared(found, c.correlation_windows)
        n_states = min(c.rank if isinstance(c.rank, int) else max(c.rank), len(shared))
        state = int(generator(seed, "kmeans").integers(2**31))
        means = KMeans(n_states, n_init=c.n_restarts, random_state=state).fit(shared)
        return means.cluster_centers_.T, np.eye(n_states)[means.labels_], float(means.inertia_)
