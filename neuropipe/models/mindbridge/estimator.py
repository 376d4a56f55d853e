"""MindBridge as an estimator: labelled arrays in, labelled arrays out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neuropipe.batching.refusals import say_undefined
from neuropipe.batching.shown import ONE_STIMULUS, refuse_seen, true_features
from neuropipe.batching.stimuli import (
    Codes,
    Responses,
    Subject,
    averaged,
    coordinates,
    read_responses,
    read_training,
)
from neuropipe.config import build
from neuropipe.errors import DataError, NotFittedError
from neuropipe.models.mindbridge import gallery
from neuropipe.models.mindbridge.adapting import adapt_bridge
from neuropipe.models.mindbridge.batches import (
    Patterns,
    patterns_of,
    pooled,
    source_of,
    targets_of,
    unit_codes,
)
from neuropipe.models.mindbridge.bridging import Fitted, fit_bridge
from neuropipe.models.mindbridge.config import Config
from neuropipe.models.mindbridge.curve import adaptation_curve
from neuropipe.models.mindbridge.learned import (
    course,
    fingerprint,
    labelled,
    packed,
    packed_scaling,
    unpacked,
    unpacked_scaling,
)
from neuropipe.models.mindbridge.transfer import synthesized, transferred
from neuropipe.retrieval import embedding_scores
from neuropipe.runtime import pick_device
from neuropipe.schema import Recording, Var
from neuropipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


class MindBridge:
    """One decoder of seen images for the single-trial BOLD of several subjects.

    Each subject's voxels are brought to one size and embedded; a translator that all share
    predicts the features of image and caption. Builders lead back from the shared code to any
    subject's brain, so the brain activity of one subject becomes that of another.

    Parameters
    ----------
    **settings
        Fields of `config.Config`; ``preset="faithful"`` takes the paper's.

    Attributes
    ----------
    parameters_ : Dataset
        What was learned: `learns`.
    history_ : Dataset
        ``objective (step)``, nats, an epoch a step, and the terms of the loss; ``validation``,
        mean log rank of held-out training stimuli, where the length was chosen.

    Notes
    -----
    Source: Wang et al., "MindBridge: A Cross-Subject Brain Decoding Framework", CVPR 2024. The
    preset ``faithful`` keeps architecture, losses and schedule, but not what the code does beside
    them: norms are free of decay as the authors meant, beta1 does not cycle, the repeat of a step
    is random, and pictures are never chosen by their likeness to the true one. By default each
    subject has a linear map instead of pooling, which starts from a closed form (`start`); on the
    planted data of the tests the published network stays below ridge regression, this does not.
    Voxels are z-scored by session on training trials; trials of one stimulus are averaged before
    they are decoded.
    """

    reads: ClassVar[tuple[str, ...]] = ("betas", "embedding")
    writes: ClassVar[Mapping[str, Var]] = {
        "predicted_image": Var(("trial", "feature"), "1", "f", "image embedding of length 1"),
        "predicted_text": Var(
            ("trial", "text_feature"), "1", "f", "text embedding of length 1", optional=True
        ),
        "cycle_correlation": Var(
            ("trial", "through"), "1", "f",
            "r of the pattern with what comes back through a subject's brain", optional=True,
        ),
        "transfer_two_way": Var(
            ("trial", "through"), "1", "f",
            "share of other stimuli that are farther, decoded as that subject's", optional=True,
        ),
    }  # fmt: skip
    learns: ClassVar[Mapping[str, Var]] = {
        "n_voxels": Var(("subject",), "1", "i", "voxels that are decoded"),
        "n_trials": Var(("subject",), "1", "i", "training trials"),
        "n_stimuli_seen": Var(("subject",), "1", "i", "different stimuli among them"),
        "n_epochs": Var(("subject",), "1", "i", "of training, 0 where the start was best"),
        "parameter_count": Var(("part",), "1", "i", "numbers learned, by part of the network"),
        "voxel_importance": Var(("voxel",), "1", "f", "share of the decoder's sensitivity"),
        "voxel_signal": Var(("voxel",), "1", "f", "r with what features predict, where chosen"),
        "adaptation_two_way": Var(
            ("approach", "n_stimuli"), "1", "f", "new subject, by number of stimuli", optional=True
        ),
    }

    def __init__(self, **settings: Any) -> None:
        self.config = build(Config, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Learn from the windows of one or several subjects.

        Parameters
        ----------
        recordings : sequence of DataTree
            One session each, with nodes betas and embedding (perhaps text_embedding) and, where a
            fold has set it, ``windows``. Sessions of one subject share their voxels.
        seed : int
            Of weights, batches and held-out stimuli.
        device : str
            ``auto``, ``cpu`` or a CUDA device.
        checkpoint : Path, optional
            File that the fit resumes from and keeps its progress in.

        Raises
        ------
        DataError
            If amplitudes or features are NaN or missing, or voxels of a subject do not agree.
        """
        config, where = self.config, pick_device(device)
        subjects, codes = self._training(recordings, seed)
        unit = unit_codes(codes, where)
        data = [patterns_of(s, config, where) for s in subjects]
        kept = Checkpoint(checkpoint, fingerprint(subjects, codes, config, seed))
        log.info("mindbridge: %d subjects, %d stimuli, %s", len(data), len(codes.stimulus), where)
        if config.mode == "single":
            fits = {
                p.name: fit_bridge([p], unit, config, seed=seed, stage=f"single-{p.name}",
                                   kept=kept)
                for p in data
            }  # fmt: skip
        else:
            fitted = fit_bridge(data, unit, config, seed=seed, stage=config.mode, kept=kept)
            fits = {p.name: fitted for p in data}
        curve = None
        if config.adaptation_trials:
            curve = adaptation_curve(data, unit, config, seed=seed, kept=kept)
        return self._keep(fits, subjects, codes, unit, data, curve, seed)

    def _training(self, recordings: Sequence[Recording], seed: int) -> tuple[list[Subject], Codes]:
        """Return what is learned from."""
        return read_training(recordings, source_of(self.config))

    def _keep(
        self, fits: dict[str, Fitted], subjects: Sequence[Subject], codes: Codes,
        unit: Mapping[str, Tensor], data: Sequence[Patterns], curve: xr.Dataset | None, seed: int,
    ) -> Self:  # fmt: skip
        """Take the fits and all that later calls need."""
        rows = torch.cat([p.row for p in data]).unique()
        center = targets_of(unit, rows, True).mean
        self._fits = fits
        self._scalings = {s.name: s.scaling for s in subjects}
        self._seen = set(codes.stimulus)
        self._center = {n: c.cpu().numpy().astype(float) for n, c in center.items()}
        self.parameters_ = labelled(fits, subjects, codes, curve, seed)
        self.history_ = course({s.name: fits[s.name] for s in subjects})
        return self

    def adapt(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        sources: Sequence[Recording] = (),
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> MindBridge:
        """Return a decoder that knows one more subject, from few of its trials.

        Parameters
        ----------
        recordings : sequence of DataTree
            Sessions of the new subject.
        seed, device, checkpoint
            As of `fit`.
        sources : sequence of DataTree
            Training sessions of subjects that are known already. Their images lend the new subject
            pseudo-data: patterns that its brain would have shown. None: real trials only.

        Raises
        ------
        DataError
            If the subject is known already, a source is not, or the mode has no shared part.
        """
        if not hasattr(self, "_fits"):
            raise NotFittedError("MindBridge: call fit (or load) before adapt")
        config, where = self.config, pick_device(device)
        if config.mode != "bridge":
            raise DataError(f"adapt: mode {config.mode} has no shared part; fit with mode bridge")
        subjects, codes = read_training([*recordings, *sources], source_of(config))
        new = [s for s in subjects if s.name not in self._fits]
        names = {str(r.attrs.get("subject", "")) for r in recordings}
        if len(new) != 1 or names != {new[0].name}:
            raise DataError(
                f"adapt: found subjects {', '.join(sorted(names))}, expected one that is not among "
                f"{', '.join(self._fits)}, and sources that are"
            )
        if (codes.text is not None) != ("text" in self._center):
            raise DataError("adapt: text features are there in one of source and new subject only")
        unit = unit_codes(codes, where)
        data = {s.name: patterns_of(s, config, where) for s in subjects}
        kept = Checkpoint(checkpoint, fingerprint(subjects, codes, config, seed))
        source = next(iter(self._fits.values())).on(where)
        fitted = adapt_bridge(
            source, data.pop(new[0].name), list(data.values()), unit, config, seed=seed,
            stage="adapt", kept=kept,
        )  # fmt: skip
        out = type(self)(**self.config.model_dump())
        fits = dict.fromkeys(fitted.names, fitted)
        own = [patterns_of(new[0], config, where)]
        out._keep(fits, new, codes, unit, own, None, seed)
        out._scalings = {**self._scalings, new[0].name: new[0].scaling}
        out._seen = self._seen | set(codes.stimulus)
        return out

    def _patterns(self, recording: Recording) -> tuple[Responses, Tensor, xr.Dataset]:
        """Read a recording's trials as the network sees them, with names and onsets of its rows."""
        if not hasattr(self, "_fits"):
            raise NotFittedError("MindBridge: call fit (or load) before transform and score")
        responses = read_responses(recording, source_of(self.config))
        if responses.subject not in self._fits:
            raise DataError(
                f"session {responses.session}: subject {responses.subject!r} is not among "
                f"{', '.join(self._fits)}; call adapt with some of its trials first"
            )
        x = pooled(self._scalings[responses.subject](responses), self.config)
        names, time, number = responses.stimulus, responses.time, np.ones(len(x), dtype=int)
        if self.config.average_repeats:
            _, group = np.unique(names.astype(str), return_inverse=True)
            _, mean, number = averaged(x.numpy(), group)
            first = np.sort(np.unique(group, return_index=True)[1])
            x, names, time = torch.as_tensor(mean, dtype=torch.float32), names[first], time[first]
        device = next(self._fits[responses.subject].bridge.parameters()).device
        rows = coordinates(
            xr.Dataset(coords={"n_repeats": ("trial", number, {"units": "1"})}), names, time
        )
        return responses, x.to(device), rows

    def _true(self, recording: Recording, names: np.ndarray) -> dict[str, np.ndarray]:
        """Return the true embeddings of some stimuli, a row each."""
        return true_features(recording, names, source_of(self.config), self._center)

    @torch.no_grad()
    def transform(self, recording: Recording) -> xr.Dataset:
        """Return predicted embeddings, and how patterns fare on a way through other brains.

        Returns
        -------
        Dataset
            ``predicted_image (trial, feature)`` and perhaps ``predicted_text``, directions about
            the training mean (`bridging.Fitted.embeddings`); where there are builders,
            ``cycle_correlation`` and ``transfer_two_way (trial, through)``, see `transfer`.
            ``stimulus``, ``time`` (onset, s) and ``n_repeats`` stand on ``trial``; repeats of a
            stimulus are one row unless ``average_repeats`` is off.
        """
        responses, x, out = self._patterns(recording)
        fitted = self._fits[responses.subject]
        names = {"image": "feature", "text": "text_feature"}
        for head, value in fitted.predict(x, responses.subject).items():
            out[f"predicted_{head}"] = (("trial", names[head]), value.cpu().numpy(), {"units": "1"})
        if fitted.bridge.form.builds and not fitted.bridge.form.shared:
            true = self._true(recording, out["stimulus"].values)["image"]
            found = transferred(fitted, x, responses.subject, true, self._center["image"],
                                out["stimulus"].values)  # fmt: skip
            for name, table in found.items():
                out[name] = (("trial", "through"), table.astype(np.float32), {"units": "1"})
            through = np.array(fitted.names, dtype=object)
            out = out.assign_coords(through=("through", through, {"units": ""}))
        return out.assign_attrs(subject=responses.subject)

    def score(self, recording: Recording) -> dict[str, float]:
        """Return identification and retrieval of a recording's held-out stimuli.

        Returns
        -------
        dict
            ``two_way_image`` (chance 1/2) and perhaps ``two_way_text``; ``image_retrieval_top1`` (a
            brain finds its image among `pool_size`) and ``brain_retrieval_top1`` (an image its
            brain), and the same for the best five, where there are as many stimuli; where training
            pictures are there, ``pixel_correlation`` and ``structural_similarity`` of the nearest
            one with the true one.

        Raises
        ------
        DataError
            If a stimulus was in the training data, and ``shared_stimuli`` does not allow it.

        Notes
        -----
        Cosines are taken about the mean training embedding.
        """
        estimates = self.transform(recording)
        names = estimates["stimulus"].values
        if self.config.shared_stimuli == "refuse":
            refuse_seen(names, sorted(self._seen), str(recording.attrs.get("session")))
        out: dict[str, float] = {}
        for head, true in self._true(recording, names).items():
            guess = estimates[f"predicted_{head}"].values.astype(float)
            out |= embedding_scores(
                guess, true, self._center[head], names, self.config.pool_size, head
            )
        out = say_undefined(out, recording, ONE_STIMULUS)
        pictures = gallery.pictures_of(recording, self.config.pictures)
        if pictures is None:
            return out
        known = sorted(self._seen & set(map(str, pictures["stimulus"].values)))
        guess = estimates["predicted_image"].values.astype(float)
        embedding = self._true(recording, np.array(known, object))["image"] if known else None
        return out | gallery.nearest_picture_scores(
            pictures, names, guess, known, embedding, self._center["image"]
        )

    @torch.no_grad()
    def synthesize(self, recording: Recording, subject: str) -> xr.Dataset:
        """Return what another subject's brain would have done in a recording's trials.

        Parameters
        ----------
        recording : DataTree
            Of a subject that is known.
        subject : str
            Another one.

        Returns
        -------
        Dataset
            ``synthesized_beta (trial, voxel)``, z-scored as that subject's betas are, with the
            voxels' places ``i j k``; pooled aggregations give ``(trial, bin)``.
        """
        responses, x, out = self._patterns(recording)
        fitted = self._fits[responses.subject]
        if subject not in fitted.names or not fitted.bridge.form.builds:
            raise DataError(
                f"synthesize: no builder of subject {subject!r}; there are those of "
                f"{', '.join(fitted.names) if fitted.bridge.form.builds else 'none'}"
            )
        return out.merge(
            synthesized(fitted, x, responses.subject, subject, self._scalings[subject])
        )

    def save(self, path: Path) -> None:
        """Write ``config.json`` and ``weights.pt`` into a folder that exists."""
        if not hasattr(self, "_fits"):
            raise NotFittedError("MindBridge: nothing to save before fit")
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        distinct = list({id(f): f for f in self._fits.values()}.values())
        torch.save(
            {
                "fits": [packed(f) for f in distinct],
                "scalings": {n: packed_scaling(s) for n, s in self._scalings.items()},
                "seen": sorted(self._seen),
                "center": {n: torch.as_tensor(c) for n, c in self._center.items()},
            },
            path / "weights.pt",
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; transform, score and adapt then work as after fit, on CPU."""
        config = Config.model_validate_json((path / "config.json").read_text())
        out = cls(**config.model_dump())
        saved = torch.load(path / "weights.pt", weights_only=True)
        fits = [unpacked(f) for f in saved["fits"]]
        out._fits = {name: f for f in fits for name in f.names}
        out._scalings = {n: unpacked_scaling(s) for n, s in saved["scalings"].items()}
        out._seen = set(saved["seen"])
        out._center = {n: c.numpy() for n, c in saved["center"].items()}
        return out
