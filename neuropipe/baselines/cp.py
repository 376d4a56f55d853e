"""Plain non-negative CP of the same tensor, by tensorly: one start, missing entries as zeros."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from neuropipe.baselines.config import CPConfig
from neuropipe.baselines.patterns import Patterns, tensor_of
from neuropipe.batching.refusals import NO_PAIR, refuse_rank, refuse_unfitted, say_undefined
from neuropipe.config import build
from neuropipe.runtime import generator
from neuropipe.schema import Recording, Var

log = logging.getLogger(__name__)


class PlainCP:
    """Non-negative CP without masks or restarts, on the affinities of the NTF connectome.

    Parameters
    ----------
    **settings
        Fields of `CPConfig`.

    Notes
    -----
    The tensor is held whole in float64, which bounds the size. Source: Kossaifi et al., "TensorLy",
    JMLR 2019, ``non_negative_parafac_hals``.
    """

    reads: ClassVar[tuple[str, ...]] = ("calcium",)
    writes: ClassVar[Mapping[str, Var]] = {
        "activation": Var(("window", "component"), "1", "f", "how active, at each time"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "affinity": Var(("component", "unit", "source_unit"), "1", "f", "patterns"),
        "animal_loading": Var(("animal", "component"), "1", "f", "how strong in each animal"),
        "activation": Var(("window", "component"), "1", "f", "of the training windows"),
    }

    def __init__(self, **settings: Any) -> None:
        self.config = build(CPConfig, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Factorise the training windows, on CPU.

        Raises
        ------
        DataError
            If the tensor is larger than ``most_bytes``, or has not room for so many components.
        """
        from tensorly.cp_tensor import CPTensor
        from tensorly.decomposition import non_negative_parafac_hals

        c = self.config
        found = Patterns.of(recordings, c)
        value = tensor_of(found.training, c)
        rank = c.rank if isinstance(c.rank, int) else max(c.rank)
        refuse_rank("plain_cp", rank, value.shape)
        rng = generator(seed, "start")
        start = CPTensor((np.ones(rank), [rng.random((n, rank)) for n in value.shape]))
        (weight, factors), errors = non_negative_parafac_hals(
            value, rank, n_iter_max=c.max_sweeps, init=start, tol=c.tolerance, return_errors=True
        )
        time, animal, pair = (np.asarray(f) for f in factors)
        length, top = np.linalg.norm(pair, axis=0), animal.max(0)
        time = time * weight * length * top
        order = np.argsort(-np.linalg.norm(time, axis=0))
        safe = np.maximum(length, 1e-300), np.maximum(top, 1e-300)
        self._patterns = found.with_factors(
            (pair / safe[0])[:, order], (animal / safe[1])[:, order]
        )
        self._time = time[:, order]
        self.history_ = xr.Dataset(
            {"objective": ("step", np.array(errors, float), {"units": "1"})},
            attrs={"converged": int(len(errors) < c.max_sweeps)},
        )
        return self

    @property
    def parameters_(self) -> xr.Dataset:
        """Patterns, loadings and activations."""
        return self._patterns.labelled(self._time)

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``activation (window, component)``, patterns and loadings held."""
        refuse_unfitted(self, "_patterns")
        return self._patterns.activation(recording, self.config)[0]

    def score(self, recording: Recording) -> dict[str, float]:
        """Return ``explained_variance`` of the windows, activations refitted as by the model."""
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
        patterns, config, time = Patterns.load(path, CPConfig)
        out = cls(**config.model_dump())
        out._patterns, out._time = patterns, time
        return out
