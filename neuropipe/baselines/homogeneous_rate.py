"""Each unit fires at its mean training rate, whatever happens: the null model of every score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from neuropipe.baselines.config import RateConfig
from neuropipe.baselines.weights import load_arrays, save_arrays
from neuropipe.batching.refusals import NO_SPIKE, refuse_unfitted, say_undefined
from neuropipe.batching.sequences import Source, held_out, training_sequences
from neuropipe.config import build
from neuropipe.metrics import likelihood_scores, poisson_log_likelihood
from neuropipe.schema import Recording, Var


class HomogeneousRate:
    """Constant Poisson rates.

    Parameters
    ----------
    **settings
        Fields of `RateConfig`.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = {
        "rate": Var(("time", "unit"), "Hz", "f", "predicted rate"),
    }
    learns: ClassVar[Mapping[str, Var]] = {"rate": Var(("unit",), "Hz", "f", "mean training rate")}

    def __init__(self, **settings: Any) -> None:
        self.config = build(RateConfig, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Average the training counts; nothing is drawn, so the seed is not used."""
        parts, self._scaling = training_sequences(recordings, self._source())
        value = sum(poisson_log_likelihood(p.counts[p.observed], self._scaling.rate) for p in parts)
        self.history_ = xr.Dataset(
            {"objective": ("step", [value], {"units": "nats"})}, attrs={"converged": 1}
        )
        return self

    def _source(self) -> Source:
        c = self.config
        return Source("counts", None, c.gaps, c.missing_covariates, c.min_spikes)

    @property
    def parameters_(self) -> xr.Dataset:
        """Mean training rates."""
        rate = self._scaling.rate / self._scaling.bin_width_s
        return xr.Dataset(
            {"rate": ("unit", rate, {"units": "Hz"})},
            {"unit": ("unit", self._scaling.unit, {"units": "1"})},
        )

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return the constant prediction, ``rate (time, unit)``."""
        refuse_unfitted(self, "_scaling")
        parts = held_out(recording, self._source(), self._scaling)
        time = np.concatenate([p.time for p in parts])
        rate = np.broadcast_to(
            self.parameters_["rate"].values, (len(time), len(self._scaling.unit))
        )
        return xr.Dataset(
            {"rate": (("time", "unit"), rate.copy(), {"units": "Hz"})},
            {
                "time": ("time", time, {"units": "s"}),
                "unit": ("unit", self._scaling.unit, {"units": "1"}),
            },
        )

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the likelihood of the windows; bits per spike are zero by definition."""
        refuse_unfitted(self, "_scaling")
        parts = held_out(recording, self._source(), self._scaling)
        counts = np.concatenate([p.counts[p.observed] for p in parts])
        value = poisson_log_likelihood(counts, self._scaling.rate)
        scores = likelihood_scores(value, counts, self._scaling.rate)
        return say_undefined(scores, recording, NO_SPIKE)

    def save(self, path: Path) -> None:
        """Write the fitted baseline into a folder."""
        refuse_unfitted(self, "_scaling")
        save_arrays(path, self.config, self._scaling)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        config, scaling, _ = load_arrays(path)
        out = cls(**RateConfig.model_validate_json(config).model_dump())
        out._scaling = scaling
        return out
