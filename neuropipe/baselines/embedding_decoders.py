"""Decoders of embeddings that stand beside MindBridge: ridge, shared responses, chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from neuropipe.baselines import embeddings
from neuropipe.baselines.config import EmbeddingConfig, RidgeConfig, SharedConfig
from neuropipe.baselines.embeddings import LEARNS, WRITES, LinearDecoder, Training
from neuropipe.batching.stimuli import averaged
from neuropipe.config import build
from neuropipe.errors import DataError
from neuropipe.runtime import generator
from neuropipe.schema import Recording, Var


class MeanEmbedding:
    """Predicts the mean training embedding, whatever the brain does: chance of every score.

    Parameters
    ----------
    **settings
        Fields of `EmbeddingConfig`.
    """

    reads: ClassVar[tuple[str, ...]] = ("betas", "embedding")
    writes: ClassVar[Mapping[str, Var]] = WRITES
    learns: ClassVar[Mapping[str, Var]] = LEARNS
    settings: ClassVar[type[EmbeddingConfig]] = EmbeddingConfig

    def __init__(self, **settings: Any) -> None:
        self.config = build(self.settings, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Take the mean of the training embeddings."""
        training = embeddings.read(recordings, self.config)
        n = training.score.shape[1]
        weight = {k: np.zeros((x.shape[1], n)) for k, x in training.patterns.items()}
        zero = {k: np.zeros(n) for k in weight}
        self._decoder = LinearDecoder.of(
            self.config, training, weight, zero, dict.fromkeys(weight, float("nan"))
        )
        self.history_ = embeddings.course([0.0])
        return self

    @property
    def parameters_(self) -> xr.Dataset:
        """Sizes and penalties of the maps."""
        return embeddings.fitted(self).labelled()

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``predicted_image (trial, feature)`` and perhaps ``predicted_text``."""
        return embeddings.fitted(self).transform(recording)

    def score(self, recording: Recording) -> dict[str, float]:
        """Return identification and retrieval of held-out stimuli."""
        return embeddings.fitted(self).score(recording)

    def save(self, path: Path) -> None:
        """Write the fitted maps into a folder that exists."""
        embeddings.fitted(self).save(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; transform and score then work as after fit."""
        decoder = LinearDecoder.load(path, cls.settings)
        out = cls(**decoder.config.model_dump())
        out._decoder = decoder
        return out


class SubjectRidge(MeanEmbedding):
    """Ridge regression from all voxels to the embeddings, each subject alone.

    Parameters
    ----------
    **settings
        Fields of `RidgeConfig`.

    Notes
    -----
    scikit-learn's RidgeCV on the mean pattern of each stimulus; the penalty has the least
    leave-one-out error. Up to 1000 components of the embeddings are predicted: all of them, where
    training has no more stimuli, which is then the ridge on all features.
    """

    settings = RidgeConfig
    config: RidgeConfig

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Fit a ridge for each subject, on CPU."""
        training = embeddings.read(recordings, self.config)
        weight, offset, alpha = {}, {}, {}
        for name, x in training.patterns.items():
            weight[name], offset[name], alpha[name] = embeddings.ridge(
                x, training.score[training.rows[name]], self.config.alphas
            )
        self._decoder = LinearDecoder.of(self.config, training, weight, offset, alpha)
        self.history_ = embeddings.course([0.0])
        return self


def shared_rows(training: Training) -> np.ndarray:
    """Return the stimuli that all subjects saw in training, or say that there are too few."""
    rows = training.codes.rows(training.codes.stimulus)
    for own in training.rows.values():
        rows = rows[np.isin(rows, own)]
    if len(rows) < 3:
        raise DataError(
            f"shared responses: {len(training.rows)} subjects saw {len(rows)} stimuli in common in "
            "training, expected 3 at least; leave this baseline out"
        )
    return rows


class SharedResponse(MeanEmbedding):
    """Shared response model, then one ridge from the shared space for all subjects.

    Parameters
    ----------
    **settings
        Fields of `SharedConfig`.

    Notes
    -----
    Deterministic SRM on the stimuli that all subjects saw: X_i ~ W_i S with orthonormal W_i,
    alternating W_i = polar(X_i S') and S = mean of W_i' X_i. All other training trials enter the
    ridge through W_i. Source: Chen et al., NeurIPS 2015.
    """

    settings = SharedConfig
    config: SharedConfig

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Align subjects on shared stimuli, then fit one ridge, on CPU."""
        training = embeddings.read(recordings, self.config)
        maps, lost = self._aligned(training, seed)
        together = np.concatenate([x @ maps[k] for k, x in training.patterns.items()])
        score = np.concatenate([training.score[training.rows[k]] for k in training.patterns])
        weight, offset, alpha = embeddings.ridge(together, score, self.config.alphas)
        self._decoder = LinearDecoder.of(
            self.config, training, {k: w @ weight for k, w in maps.items()},
            dict.fromkeys(maps, offset), dict.fromkeys(maps, alpha),
        )  # fmt: skip
        self.history_ = embeddings.course(lost)
        return self

    def _aligned(self, training: Training, seed: int) -> tuple[dict[str, np.ndarray], list]:
        """Return each subject's map (voxel, shared feature), and the error of every round."""
        data = _centred(training)
        n_stimuli = len(next(iter(data.values())))
        n = min(self.config.features, n_stimuli - 1, *(x.shape[1] for x in data.values()))
        rng = generator(seed, "shared-response")
        shared = rng.normal(size=(n_stimuli, n))
        lost, maps = [], {}
        for _ in range(self.config.rounds):
            maps = {k: _polar(x.T @ shared) for k, x in data.items()}
            shared = np.mean([x @ maps[k] for k, x in data.items()], axis=0)
            total = sum(float((x**2).sum()) for x in data.values())
            off = sum(float(((x - shared @ maps[k].T) ** 2).sum()) for k, x in data.items())
            lost.append(off / total)
        return maps, lost


class Hyperalignment(SharedResponse):
    """Hyperalignment by Procrustes rotations, then one ridge for all subjects.

    Parameters
    ----------
    **settings
        Fields of `SharedConfig`; ``features`` is not used.

    Notes
    -----
    Patterns of the stimuli that all subjects saw, padded with zeros to the largest brain, are
    rotated to each other: first to the subjects before, then to their mean, ``rounds`` times.
    Source: Haxby et al., Neuron 2011; rotations by scipy's orthogonal_procrustes.
    """

    def _aligned(self, training: Training, seed: int) -> tuple[dict[str, np.ndarray], list]:
        from scipy.linalg import orthogonal_procrustes

        data = _centred(training)
        size = max(x.shape[1] for x in data.values())
        padded = {k: np.pad(x, ((0, 0), (0, size - x.shape[1]))) for k, x in data.items()}
        common = np.zeros((len(next(iter(padded.values()))), size))
        for n, x in enumerate(padded.values()):
            turn = orthogonal_procrustes(x, common)[0] if n else np.eye(size)
            common = (n * common + x @ turn) / (n + 1)
        lost, maps = [], {}
        for _ in range(self.config.rounds):
            maps = {k: orthogonal_procrustes(x, common)[0] for k, x in padded.items()}
            turned = [x @ maps[k] for k, x in padded.items()]
            common = np.mean(turned, axis=0)
            total = sum(float((x**2).sum()) for x in turned)
            lost.append(sum(float(((x - common) ** 2).sum()) for x in turned) / total)
        return {k: maps[k][: x.shape[1]] for k, x in data.items()}, lost


def _centred(training: Training) -> dict[str, np.ndarray]:
    """Return each subject's patterns of the shared stimuli (stimulus, voxel), centred."""
    rows = shared_rows(training)
    out = {}
    for name, x in training.patterns.items():
        seen, x, _ = averaged(x, training.rows[name])
        place = {int(row): n for n, row in enumerate(seen)}
        own = x[[place[int(row)] for row in rows]]
        out[name] = own - own.mean(0)
    return out


def _polar(matrix: np.ndarray) -> np.ndarray:
    """Return the nearest matrix with orthonormal columns."""
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right
