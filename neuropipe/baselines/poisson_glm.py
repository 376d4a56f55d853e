"""One Poisson GLM a unit, without hidden states: scikit-learn's PoissonRegressor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from neuropipe.baselines.config import GLMConfig
from neuropipe.baselines.weights import load_arrays, save_arrays
from neuropipe.batching.history import filter_history, history_basis
from neuropipe.batching.refusals import NO_SPIKE, refuse_unfitted, say_undefined
from neuropipe.batching.sequences import Source, Stretch, held_out, training_sequences
from neuropipe.config import build
from neuropipe.metrics import likelihood_scores, poisson_log_likelihood
from neuropipe.schema import Recording, Var


class PoissonGLM:
    """Poisson regression on spike history and covariates, with an exponential link.

    Parameters
    ----------
    **settings
        Fields of `GLMConfig`.

    Notes
    -----
    The link differs from the sigmoid or softplus of an HMM-GLM; it is the library's own.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = {
        "rate": Var(("time", "unit"), "Hz", "f", "predicted rate, given the past"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "weight": Var(("unit", "source_unit", "basis"), "1", "f", "interactions"),
        "bias": Var(("unit",), "1", "f", "baseline of the predictor"),
    }
    default_sd: ClassVar[float] = 5.0

    def __init__(self, **settings: Any) -> None:
        self.config = build(GLMConfig, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Fit unit by unit; the problem is convex, so the seed is not used."""
        from sklearn.linear_model import PoissonRegressor

        parts, self._scaling = training_sequences(recordings, self._source())
        features, counts = self._design(parts)
        sd = self.config.weight_sd or self.default_sd
        weight, bias, converged = [], [], True
        for unit in range(counts.shape[1]):
            model = PoissonRegressor(
                alpha=1 / (len(counts) * sd**2), solver="newton-cholesky", max_iter=1000, tol=1e-6
            )
            model.fit(features, counts[:, unit]) if features.shape[1] else None
            if not features.shape[1]:
                weight.append(np.zeros(0))
                bias.append(np.log(counts[:, unit].mean()))
                continue
            converged &= model.n_iter_ < 1000
            weight.append(model.coef_)
            bias.append(model.intercept_)
        self._weight, self._bias = np.array(weight), np.array(bias)
        value = poisson_log_likelihood(counts, self._rate(features))
        self.history_ = xr.Dataset(
            {"objective": ("step", [value], {"units": "nats"})},
            attrs={"converged": int(converged)},
        )
        return self

    def _source(self) -> Source:
        c = self.config
        return Source("counts", None, c.covariates, c.missing_covariates, c.min_spikes)

    def _design(self, parts: Sequence[Stretch]) -> tuple[np.ndarray, np.ndarray]:
        """Return features (bin, feature) and counts (bin, unit) of the observed bins."""
        c, scaling = self.config, self._scaling
        n_basis = c.history_bins if c.basis == "lags" else c.n_basis
        features, counts = [], []
        for part in parts:
            scaled = (part.covariates - scaling.covariate_mean) / scaling.covariate_sd
            # what is missing stands at its mean
            columns = [np.where(np.isfinite(scaled), scaled, 0.0)]
            if c.history_bins:
                basis = history_basis(c.basis, c.history_bins, n_basis, c.decay_per_bin)
                columns.insert(0, filter_history(part.counts, basis))
            features.append(np.concatenate(columns, 1)[part.observed])
            counts.append(part.counts[part.observed])
        return np.concatenate(features), np.concatenate(counts)

    def _rate(self, features: np.ndarray) -> np.ndarray:
        # one bin of extrapolation must not overflow the whole score
        return np.exp(np.minimum(features @ self._weight.T + self._bias, 20.0))

    @property
    def parameters_(self) -> xr.Dataset:
        """Weights and biases."""
        n_units = len(self._scaling.unit)
        n_covariates = len(self.config.covariates)
        history = self._weight[:, : self._weight.shape[1] - n_covariates]
        return xr.Dataset(
            {
                "weight": (
                    ("unit", "source_unit", "basis"),
                    history.reshape(n_units, n_units if history.size else 0, -1)
                    if history.size
                    else np.zeros((n_units, n_units, 0)),
                    {"units": "1"},
                ),
                "bias": ("unit", self._bias, {"units": "1"}),
            },
            {
                "unit": ("unit", self._scaling.unit, {"units": "1"}),
                "source_unit": ("source_unit", self._scaling.unit, {"units": "1"}),
            },
            {"link": "exp", "bin_width_s": self._scaling.bin_width_s},
        )

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``rate (time, unit)`` of the observed bins, predicted from the past."""
        refuse_unfitted(self, "_scaling")
        parts = held_out(recording, self._source(), self._scaling)
        features, _ = self._design(parts)
        time = np.concatenate([p.time[p.observed] for p in parts])
        return xr.Dataset(
            {
                "rate": (
                    ("time", "unit"),
                    self._rate(features) / self._scaling.bin_width_s,
                    {"units": "Hz"},
                )
            },
            {
                "time": ("time", time, {"units": "s"}),
                "unit": ("unit", self._scaling.unit, {"units": "1"}),
            },
        )

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the likelihood of the windows, each bin predicted from its past."""
        refuse_unfitted(self, "_scaling")
        features, counts = self._design(held_out(recording, self._source(), self._scaling))
        value = poisson_log_likelihood(counts, self._rate(features))
        scores = likelihood_scores(value, counts, self._scaling.rate)
        return say_undefined(scores, recording, NO_SPIKE)

    def save(self, path: Path) -> None:
        """Write the fitted baseline into a folder."""
        refuse_unfitted(self, "_scaling")
        save_arrays(path, self.config, self._scaling, weight=self._weight, bias=self._bias)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        config, scaling, arrays = load_arrays(path)
        out = cls(**GLMConfig.model_validate_json(config).model_dump())
        out._scaling = scaling
        out._weight, out._bias = arrays["weight"], arrays["bias"]
        return out


class GaussianGLM(PoissonGLM):
    """The same regression with a Gaussian prior of sd 1/3 on every weight, the HMM-GLM's own."""

    default_sd: ClassVar[float] = 1 / 3
