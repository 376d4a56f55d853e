"""Linear decoders of trials on log band power in bins of time, by scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from scipy.special import softmax

from neuropipe.baselines.config import BandPowerConfig
from neuropipe.batching.contacts import band_features
from neuropipe.batching.door import Door, enter
from neuropipe.batching.epochs import Voltages, VoltageSource
from neuropipe.batching.refusals import NO_TRIAL, refuse_unfitted, say_undefined
from neuropipe.config import build
from neuropipe.errors import DataError, NotFittedError
from neuropipe.schema import Recording, Var


class BandPowerLDA:
    """Linear discriminant analysis with shrinkage on the log power of bands, up to high gamma.

    Parameters
    ----------
    **settings
        Fields of `BandPowerConfig`.

    Notes
    -----
    Contacts, trials and scaling are those of Du-IN. Covariances are shrunk as Ledoit and Wolf
    (2004) say. One subject at a time, since contacts of different subjects are no common features.
    """

    reads: ClassVar[tuple[str, ...]] = ("ieeg", "trials")
    writes: ClassVar[Mapping[str, Var]] = {
        "class_probability": Var(("trial", "class"), "1", "f", "of each class"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "weight": Var(("class", "feature"), "1", "f", "of contact, band and bin, in this order"),
        "class_share": Var(("class",), "1", "f", "share of the training trials"),
    }

    def __init__(self, **settings: Any) -> None:
        self.config = build(BandPowerConfig, settings, type(self).__name__)

    def _classifier(self, seed: int) -> Any:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Fit on the training trials, on CPU.

        Raises
        ------
        DataError
            If there are several subjects, or as `enter`.
        """
        c = self.config
        door, found = enter(recordings, VoltageSource(c.labels, c.trial_s, c.n_channels), c.patch_s)
        if len(door.channel) > 1:
            raise DataError(
                f"{type(self).__name__}: {len(door.channel)} subjects ({', '.join(door.channel)}), "
                "expected one; give each subject a run of its own"
            )
        self._door = door
        known = [door.known(v) for v in found]
        raw = np.concatenate([self._features(v, k) for v, k in zip(found, known, strict=True)])
        y = door.number(np.concatenate([v.label[k] for v, k in zip(found, known, strict=True)]))
        if len(raw) <= len(door.classes):
            raise DataError(
                f"{type(self).__name__}: {len(raw)} training trials of {len(door.classes)} classes "
                "leave nothing to learn within a class; use more trials or fewer classes"
            )
        self._mean, self._sd = raw.mean(0), np.maximum(raw.std(0), 1e-9)
        fitted = self._classifier(seed).fit((raw - self._mean) / self._sd, y)
        weight, bias = np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)
        if len(weight) == 1:  # of two classes the library keeps the second
            weight, bias = np.concatenate([0 * weight, weight]), np.append(0.0, bias)
        self._weight, self._bias = weight, bias
        loss = -np.log(np.maximum(self._probability(raw)[np.arange(len(y)), y], 1e-12)).mean()
        self.history_ = xr.Dataset(
            {"objective": ("step", [float(loss)], {"units": "nats"})}, attrs={"converged": 1}
        )
        return self

    @property
    def parameters_(self) -> xr.Dataset:
        """Weights of every class."""
        return xr.Dataset(
            {
                "weight": (("class", "feature"), self._weight, {"units": "1"}),
                "class_share": ("class", self._door.share, {"units": "1"}),
            },
            {"class": ("class", np.array(self._door.classes, dtype=object), {"units": ""})},
        )

    def _features(self, v: Voltages, keep: np.ndarray | None = None) -> np.ndarray:
        c, door = self.config, self._door
        value = v.trials(door.n_samples, keep)
        found = band_features(value, door.rate_hz, c.bands, c.bin_s)
        return found.reshape(len(found), int(np.prod(found.shape[1:]))).astype(float)

    def _probability(self, raw: np.ndarray) -> np.ndarray:
        return softmax((raw - self._mean) / self._sd @ self._weight.T + self._bias, axis=1)

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``class_probability (trial, class)`` of the trials in a recording's windows."""
        if not hasattr(self, "_door"):
            raise NotFittedError(f"{type(self).__name__}: call fit (or load) before transform")
        found = self._door.read(recording)
        return self._door.estimates(found, self._probability(self._features(found)))

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the scores of decoders of trials (`metrics.class_scores`)."""
        estimates = self.transform(recording)
        scores = self._door.scores(estimates)
        return say_undefined(scores, recording, NO_TRIAL)

    def save(self, path: Path) -> None:
        """Write the fitted baseline into a folder."""
        refuse_unfitted(self, "_door")
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        (path / "door.json").write_text(json.dumps(self._door.saved()))
        np.savez(
            path / "weights.npz", mean=self._mean, sd=self._sd, weight=self._weight,
            bias=self._bias,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        config = BandPowerConfig.model_validate_json((path / "config.json").read_text())
        out = cls(**config.model_dump())
        out._door = Door.of(json.loads((path / "door.json").read_text()))
        with np.load(path / "weights.npz", allow_pickle=False) as stored:
            out._mean, out._sd = stored["mean"], stored["sd"]
            out._weight, out._bias = stored["weight"], stored["bias"]
        return out


class BandPowerLogistic(BandPowerLDA):
    """Logistic regression with a ridge on the same features."""

    def _classifier(self, seed: int) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=1 / self.config.ridge, max_iter=1000)
