"""Du-IN as an estimator: labelled arrays in, labelled arrays out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr

from neuropipe.batching.door import Door, enter
from neuropipe.batching.epochs import Voltages, VoltageSource, part
from neuropipe.batching.refusals import NO_TRIAL, say_undefined
from neuropipe.config import build
from neuropipe.errors import DataError, NotFittedError
from neuropipe.models.du_in.batches import (
    bank_of,
    in_turn,
    sizes_of,
    trial_index,
    window_index,
    window_samples,
)
from neuropipe.models.du_in.config import (
    REVISION,
    Common,
    Config,
    PointsConfig,
    ScratchConfig,
)
from neuropipe.models.du_in.contributions import contributions
from neuropipe.models.du_in.learned import ONE, histories, labelled
from neuropipe.models.du_in.model import Classifier, UnitNet
from neuropipe.models.du_in.stages import Fit, fit_decoder, fit_masked, fit_units, trial_logits
from neuropipe.runtime import pick_device
from neuropipe.schema import Recording, Var
from neuropipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


class DuIN:
    """Words, or other events, from intracranial voltages by way of discrete units.

    Stage 1 learns codes: patches of all contacts become tokens, tokens the nearest of a set of
    codes, and from codes the voltages are rebuilt. Stage 2 hides half of a window's tokens and
    predicts their codes from the others. Both need no labels. Stage 3 decodes trials.

    Parameters
    ----------
    **settings
        Fields of `config.Config`.

    Attributes
    ----------
    parameters_ : Dataset
        What was learned: `learns`.
    history_ : Dataset
        ``objective (step)`` of stage 3, an epoch a step, with ``accuracy`` and ``validation``; the
        other stages as ``<stage>_<term> (<stage>_step)``, among them ``units_perplexity``.

    Notes
    -----
    Source: Zheng et al., "Du-IN: Discrete units-guided mask modeling for decoding speech from
    Intracranial Neural signals", NeurIPS 2024, arXiv 2405.11459. Not taken over from the authors'
    code: the sigmoid before the softmax, choice of the epoch by test accuracy, scaling by test
    trials, all-zero trials at a shift of 0. Changed by default, for reasons that `config` and
    `stages` name: nonlinear patches, codes placed late and revived. ``preset: faithful`` undoes
    these changes.

    The best epoch of every stage is chosen on a part of the training windows that is fitted by
    none. Each subject has contacts, and maps from and to them, of its own; all else is shared.
    """

    reads: ClassVar[tuple[str, ...]] = ("ieeg", "trials")
    writes: ClassVar[Mapping[str, Var]] = {
        "class_probability": Var(("trial", "class"), "1", "f", "of each class"),
        "code": Var(("window", "token"), "1", "i", "unit of each patch", optional=True),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "class_share": Var(("class",), "1", "f", "share of the training trials"),
        "confusion": Var(
            ("class", "predicted_class"), "1", "i", "trials of the validation, a part of training"
        ),
        "code_count": Var(("code",), "1", "i", "use in the training windows", optional=True),
        "code_perplexity": Var((), "1", "f", "codes in even use", optional=True),
        "masked_accuracy": Var((), "1", "f", "of hidden codes, validation", optional=True),
        "contact_weight": Var(("channel",), "1", "f", "mean size of weights, largest 1"),
        "contact_contribution": Var(
            ("channel",), "nats", "f", "what its signal tells of the class", optional=True
        ),
        "contact_z": Var(
            ("channel",), "1", "f", "over its spread under shuffled classes", optional=True
        ),
        "contact_p": Var(("channel",), "1", "f", "under shuffled classes", optional=True),
        "example_voltage": Var(("lag", "contact"), "1", "f", "a validation window", optional=True),
        "example_reconstruction": Var(("lag", "contact"), "1", "f", "the same", optional=True),
    }
    settings: ClassVar[type[Common]] = Config

    def __init__(self, **settings: Any) -> None:
        self.config = build(self.settings, settings, type(self).__name__)

    @property
    def _pretraining(self) -> str:
        return str(self.config.pretraining)  # type: ignore[attr-defined]

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
            Sessions with nodes `ieeg` and `trials`, of which those in node `windows` are used.
            Split by run, what lies between trials is learned from too.
        seed : int
            Of weights, order of windows, masks, k-means and exchanges.
        device : str
            ``auto``, ``cpu`` or a CUDA device.
        checkpoint : Path, optional
            File that the fit resumes from, in the middle of a stage too, and keeps its progress in.

        Raises
        ------
        DataError
            If contacts, labels or stretches are not as `neuropipe.batching` needs them, windows
            are longer than every stretch, or no trial is left to validate on.
        """
        door, found, fit = self.prepared(
            recordings, seed=seed, device=device, checkpoint=checkpoint
        )
        units = fit_units(fit) if self._pretraining != "none" else None
        masked = (
            fit_masked(fit, units)
            if units is not None and self._pretraining in ("masked", "points")
            else None
        )
        decoder = fit_decoder(fit, units, masked)
        contacts = contributions(
            decoder, fit.bank, fit.judged, fit.trial, [len(c) for c in door.channel.values()],
            self.config.n_exchanges, seed=seed,
        )  # fmt: skip
        self._door, self._sizes, self._length = door, fit.sizes, fit.length
        self._units = units if self._pretraining != "points" else None
        self._decoder = decoder
        self.parameters_ = labelled(fit, door, found, units, masked, decoder, contacts)
        self.history_ = histories(fit.history)
        return self

    def prepared(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> tuple[Door, list[Voltages], Fit]:
        """Return the door, the voltages and all that the stages need; arguments as `fit`."""
        c = self.config
        source = VoltageSource(c.labels, c.trial_s, c.n_channels)
        door, found = enter(recordings, source, c.patch_s)
        patch = _patch(c, door.rate_hz)
        trial = door.n_samples // patch * patch
        length = window_samples(c, found, patch, trial)
        fitted, validating = part(found, c.validation_share, length, seed=seed)
        subjects = list(door.channel)
        widest = max(len(names) for names in door.channel.values())
        bank = bank_of(found, subjects, widest, pick_device(device))
        trials, judged = (trial_index(v, subjects, door) for v in (fitted, validating))
        if not c.judge_trials:
            trials, judged = trial_index(found, subjects, door), judged.of(np.zeros(0, int))
        trials, judged = (i.of(np.flatnonzero(i.y >= 0)) for i in (trials, judged))
        fit = Fit(
            c, self._pretraining, sizes_of(c, len(subjects), widest, patch), bank,
            window_index(fitted, subjects, length, length),
            window_index(validating, subjects, length, length), trials, judged, length,
            trial, len(door.classes), seed,
            Checkpoint(checkpoint, self._fingerprint(found, door, seed)),
        )  # fmt: skip
        self._check(fit)
        log.info(
            "du_in: %d subjects, %d windows of %g s, %d trials of %d classes, %s", len(subjects),
            len(fit.windows), length / door.rate_hz, len(trials), len(door.classes),
            bank.value.device,
        )  # fmt: skip
        return door, found, fit

    def _check(self, fit: Fit) -> None:
        """Refuse to start where a stage would find nothing to learn from."""
        if not len(fit.trials) or (fit.config.judge_trials and not len(fit.judged)):
            side = "fit" if not len(fit.trials) else "validate on"
            raise DataError(
                f"du_in: no trial with a label is left to {side}; change validation_share "
                f"(now {fit.config.validation_share:g}), use more training data, or say "
                "judge_trials: false"
            )
        if self._pretraining == "none":
            return
        if not len(fit.windows) or not len(fit.validating):
            raise DataError(
                f"du_in: no training stretch holds a window of {fit.length} samples on both sides "
                "of the validation; lower window_s, or split by run"
            )

    def _fingerprint(self, found: Sequence[Voltages], door: Door, seed: int) -> str:
        text = f"{REVISION} {type(self).__name__} {seed} {self.config.model_dump_json()} {door}"
        digest = hashlib.sha256(text.encode())
        for v in found:
            for array in (v.value, v.edge, v.onset, v.label.astype("U")):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return the classes of a recording's trials, and the codes of its windows.

        Returns
        -------
        Dataset
            ``class_probability (trial, class)`` of the trials that lie in the fold's windows as a
            whole, with ``time (trial)``, s, and ``label (trial)``; with pretraining also ``code
            (window, token)`` of consecutive windows with ``token_time (window, token)``, s, the
            middle of each patch.
        """
        found = self._read(recording)
        where = next(self._decoder.parameters()).device
        subjects = list(self._door.channel)
        bank = bank_of([found], subjects, self._sizes.n_contacts, where)
        trials = trial_index([found], subjects, self._door)
        n = self._door.n_samples // self._sizes.patch * self._sizes.patch
        logits = trial_logits(self._decoder, bank, trials, n)
        out = self._door.estimates(found, logits.double().softmax(1).cpu().numpy())
        if self._units is None:
            return out
        windows = window_index([found], subjects, self._length, self._length)
        code = [np.zeros((0, self._length // self._sizes.patch), np.int64)]
        with torch.no_grad():
            for batch in in_turn(bank, windows, self._length):
                code.append(self._units.codes(batch["x"], batch["subject"]).cpu().numpy())
        middle = (np.arange(code[0].shape[1]) + 0.5) * self._sizes.patch / found.rate_hz
        start = found.seconds(windows.start)
        return out.assign(code=(("window", "token"), np.concatenate(code), ONE)).assign_coords(
            token_time=(("window", "token"), start[:, None] + middle, {"units": "s"})
        )

    def score(self, recording: Recording) -> dict[str, float]:
        """Return how well the trials of a recording are told apart.

        Returns
        -------
        dict
            ``accuracy``, ``top_5_accuracy``, ``chance_accuracy`` of the class that training shows
            most often, and ``class_log_likelihood``, nats a trial. A trial whose label training
            did not show is wrong, and not part of the likelihood. NaN without labelled trials.
        """
        estimates = self.transform(recording)
        scores = self._door.scores(estimates)
        return say_undefined(scores, recording, NO_TRIAL)

    def _read(self, recording: Recording) -> Voltages:
        if not hasattr(self, "_decoder"):
            raise NotFittedError(
                f"{type(self).__name__}: call fit (or load) before transform and score"
            )
        return self._door.read(recording)

    def save(self, path: Path) -> None:
        """Write ``config.json`` and ``weights.pt`` into a folder that exists."""
        if not hasattr(self, "_decoder"):
            raise NotFittedError(f"{type(self).__name__}: nothing to save before fit")
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        state = {"decoder": _state(self._decoder), "door": self._door.saved(),
                 "length": self._length}  # fmt: skip
        if self._units is not None:
            state["units"] = _state(self._units)
        torch.save(state, path / "weights.pt")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; transform and score then work as after fit, on CPU."""
        config = cls.settings.model_validate_json((path / "config.json").read_text())
        out = cls(**config.model_dump())
        state = torch.load(path / "weights.pt", weights_only=True)
        door = Door.of(state["door"])
        patch = _patch(config, door.rate_hz)
        widest = max(len(names) for names in door.channel.values())
        out._door, out._length = door, state["length"]
        out._sizes = sizes_of(config, len(door.channel), widest, patch)
        out._decoder = Classifier(
            out._sizes, door.n_samples // patch, len(door.classes),
            quantised=out._pretraining == "quantised", sigmoid=config.sigmoid,
        )  # fmt: skip
        out._decoder.load_state_dict(state["decoder"])
        out._decoder.eval()
        out._units = None
        if "units" in state:
            out._units = UnitNet(out._sizes)
            out._units.load_state_dict(state["units"])
            out._units.eval()
        return out


class DuINFromScratch(DuIN):
    """Du-IN without unlabelled data: stage 3 from random weights; what pretraining is worth."""

    settings: ClassVar[type[Common]] = ScratchConfig


class DuINUnquantised(DuIN):
    """Du-IN without codes: hidden tokens are predicted as points; what units are worth."""

    settings: ClassVar[type[Common]] = PointsConfig


def _patch(config: Common, rate_hz: float) -> int:
    """Return the samples of a patch.

    Raises
    ------
    DataError
        If it is no multiple of all strides together.
    """
    patch = round(config.patch_s * rate_hz)
    step = int(np.prod(config.strides))
    if patch < step or patch % step:
        raise DataError(
            f"du_in: a patch of {config.patch_s:g} s has {patch} samples at {rate_hz:g} Hz, "
            f"expected a multiple of all strides together, {step}; change patch_s or strides, or "
            "add the step resample_signal"
        )
    return patch


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in module.state_dict().items()}
