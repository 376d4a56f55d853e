"""Linear decoders of embeddings that a baseline has learned: applied, scored and kept alike.

Whatever a baseline does to find it, what it ends with is one linear map a subject, from voxels to
components of the training embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.baselines.config import EmbeddingConfig
from neuropipe.batching.refusals import say_undefined
from neuropipe.batching.shown import ONE_STIMULUS, refuse_seen, true_features
from neuropipe.batching.stimuli import (
    Codes,
    Scaling,
    StimulusSource,
    Subject,
    averaged,
    coordinates,
    read_responses,
    read_training,
)
from neuropipe.errors import DataError, NotFittedError
from neuropipe.retrieval import embedding_scores
from neuropipe.schema import Recording, Var

MOST_COMPONENTS = 1000
WRITES: Mapping[str, Var] = {
    "predicted_image": Var(("trial", "feature"), "1", "f", "image embedding"),
    "predicted_text": Var(("trial", "text_feature"), "1", "f", "text embedding", optional=True),
}
LEARNS: Mapping[str, Var] = {
    "n_voxels": Var(("subject",), "1", "i", "voxels that are decoded"),
    "alpha": Var(("subject",), "1", "f", "ridge penalty that was chosen; NaN without"),
}


def source_of(config: EmbeddingConfig) -> StimulusSource:
    """Return what a configuration says of the data."""
    c = config
    return StimulusSource(c.column, c.image, c.text, c.missing, c.n_voxels)


@dataclass(frozen=True)
class Training:
    """What a baseline learns from.

    Attributes
    ----------
    subjects : list of Subject
    rows, patterns : mapping of subject to (stimulus,) and (stimulus, voxel)
        Mean z-scored patterns of each stimulus, or each trial's, and its row of the codes.
    score : (stimulus, component)
        Embeddings of length 1 as components of both heads together, centred.
    """

    subjects: list[Subject]
    codes: Codes
    rows: dict[str, np.ndarray]
    patterns: dict[str, np.ndarray]
    score: np.ndarray
    basis: dict[str, np.ndarray]
    mean: dict[str, np.ndarray]


def units(codes: Codes) -> dict[str, np.ndarray]:
    """Return embeddings of length 1 by head."""
    both = {"image": codes.image, "text": codes.text}
    return {
        head: v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)
        for head, v in ((h, v.astype(float)) for h, v in both.items() if v is not None)
    }


def read(recordings: Sequence[Recording], config: EmbeddingConfig) -> Training:
    """Read the training windows of all subjects."""
    subjects, codes = read_training(recordings, source_of(config))
    unit = units(codes)
    mean = {head: value.mean(0) for head, value in unit.items()}
    whole = np.concatenate([unit[head] - mean[head] for head in unit], 1)
    left, length, right = np.linalg.svd(whole, full_matrices=False)
    n = min(MOST_COMPONENTS, int((length > 1e-6 * length[0]).sum()))
    basis, at = {}, 0
    for head, value in unit.items():
        basis[head] = right[:n, at : at + value.shape[1]]
        at += value.shape[1]
    rows, patterns = {}, {}
    for subject in subjects:
        rows[subject.name], patterns[subject.name] = subject.row, subject.response
        if config.samples == "stimulus":
            rows[subject.name], patterns[subject.name], _ = averaged(subject.response, subject.row)
    return Training(subjects, codes, rows, patterns, left[:, :n] * length[:n], basis, mean)


@dataclass(frozen=True)
class LinearDecoder:
    """One map a subject from z-scored voxels to components of the embeddings."""

    config: Any
    weight: dict[str, np.ndarray]  # (voxel, component)
    offset: dict[str, np.ndarray]  # (component,)
    alpha: dict[str, float]
    basis: dict[str, np.ndarray]
    mean: dict[str, np.ndarray]
    scaling: dict[str, Scaling]
    seen: tuple[str, ...]

    @classmethod
    def of(
        cls, config: Any, training: Training, weight: dict[str, np.ndarray],
        offset: dict[str, np.ndarray], alpha: dict[str, float],
    ) -> LinearDecoder:  # fmt: skip
        """Return the decoder that a baseline has learned."""
        return cls(
            config, weight, offset, alpha, training.basis, training.mean,
            {s.name: s.scaling for s in training.subjects}, training.codes.stimulus,
        )  # fmt: skip

    def labelled(self) -> xr.Dataset:
        """Return what there is to say of the maps."""
        names = np.array(list(self.weight), dtype=object)
        one = {"units": "1"}
        return xr.Dataset(
            {
                "n_voxels": ("subject", np.array([len(self.weight[n]) for n in names]), one),
                "alpha": ("subject", np.array([float(self.alpha[n]) for n in names]), one),
            },
            {"subject": ("subject", names, {"units": ""})},
        )

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return predicted embeddings of a recording's windows, a row a stimulus or trial."""
        responses = read_responses(recording, source_of(self.config))
        subject = responses.subject
        if subject not in self.weight:
            raise DataError(
                f"session {responses.session}: subject {subject!r} is not among "
                f"{', '.join(self.weight)}"
            )
        x = self.scaling[subject](responses).astype(float)
        names, time = responses.stimulus, responses.time
        if self.config.average_repeats:
            _, group = np.unique(names.astype(str), return_inverse=True)
            _, x, _ = averaged(x, group)
            first = np.sort(np.unique(group, return_index=True)[1])
            names, time = names[first], time[first]
        score = x @ self.weight[subject] + self.offset[subject]
        dims = {"image": "feature", "text": "text_feature"}
        out = xr.Dataset(
            {
                f"predicted_{head}": (
                    ("trial", dims[head]), (self.mean[head] + score @ basis).astype(np.float32),
                    {"units": "1"},
                )
                for head, basis in self.basis.items()
            }
        )  # fmt: skip
        return coordinates(out, names, time)

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the scores of `metrics.embedding_scores`."""
        found = self.transform(recording)
        names = found["stimulus"].values
        if self.config.shared_stimuli == "refuse":
            refuse_seen(names, self.seen, str(recording.attrs.get("session")))
        out: dict[str, float] = {}
        for head, value in true_features(
            recording, names, source_of(self.config), self.mean
        ).items():
            out |= embedding_scores(
                found[f"predicted_{head}"].values.astype(float), value, self.mean[head], names,
                self.config.pool_size, head,
            )  # fmt: skip
        return say_undefined(out, recording, ONE_STIMULUS)

    def save(self, path: Path) -> None:
        """Write ``config.json``, ``names.json`` and ``weights.npz`` into a folder that exists."""
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        names = {
            "subjects": list(self.weight), "heads": list(self.mean), "seen": self.seen,
            "sessions": {n: list(s.mean) for n, s in self.scaling.items()}, "alpha": self.alpha,
        }  # fmt: skip
        (path / "names.json").write_text(json.dumps(names))
        arrays: dict[str, Any] = {}
        for head in self.mean:
            arrays |= {f"basis-{head}": self.basis[head], f"mean-{head}": self.mean[head]}
        for n, (name, s) in enumerate(self.scaling.items()):
            arrays |= {
                f"weight-{n}": self.weight[name], f"offset-{n}": self.offset[name],
                f"place-{n}": s.place, f"voxel-{n}": s.voxel, f"signal-{n}": s.signal,
                f"session_mean-{n}": np.stack(list(s.mean.values())),
                f"session_sd-{n}": np.stack(list(s.sd.values())),
            }  # fmt: skip
        np.savez(path / "weights.npz", **arrays)

    @classmethod
    def load(cls, path: Path, config_class: type[EmbeddingConfig]) -> LinearDecoder:
        """Read what `save` wrote."""
        config = config_class.model_validate_json((path / "config.json").read_text())
        names = json.loads((path / "names.json").read_text())
        with np.load(path / "weights.npz", allow_pickle=False) as stored:
            a = {name: stored[name] for name in stored.files}
        subjects = names["subjects"]
        scaling = {
            name: Scaling(
                a[f"place-{n}"], a[f"voxel-{n}"],
                dict(zip(names["sessions"][name], a[f"session_mean-{n}"], strict=True)),
                dict(zip(names["sessions"][name], a[f"session_sd-{n}"], strict=True)),
                a[f"signal-{n}"],
            )
            for n, name in enumerate(subjects)
        }  # fmt: skip
        return cls(
            config, {s: a[f"weight-{n}"] for n, s in enumerate(subjects)},
            {s: a[f"offset-{n}"] for n, s in enumerate(subjects)}, names["alpha"],
            {h: a[f"basis-{h}"] for h in names["heads"]},
            {h: a[f"mean-{h}"] for h in names["heads"]}, scaling, tuple(names["seen"]),
        )  # fmt: skip


def fitted(owner: object) -> LinearDecoder:
    """Return a baseline's decoder, or say that there is none yet."""
    decoder = getattr(owner, "_decoder", None)
    if decoder is None:
        raise NotFittedError(f"{type(owner).__name__}: call fit (or load) first")
    return decoder


def ridge(x: np.ndarray, y: np.ndarray, alphas: Sequence[float]) -> tuple:
    """Return weight, offset and alpha of scikit-learn's RidgeCV; alphas are a share of voxels."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=[a * x.shape[1] for a in alphas]).fit(x, y)
    return model.coef_.T, model.intercept_, float(model.alpha_)


def course(objective: Sequence[float]) -> xr.Dataset:
    """Return the course of a fit that ended by its own criterion."""
    return xr.Dataset(
        {"objective": ("step", np.array(objective, float), {"units": "1"})}, attrs={"converged": 1}
    )
