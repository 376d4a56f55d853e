"""What decoders of voltages learn before any model: contacts, their scale, classes of trials."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.batching.contacts import band_features, discriminability
from neuropipe.batching.epochs import Voltages, VoltageSource, read
from neuropipe.batching.refusals import refuse_lone
from neuropipe.errors import DataError
from neuropipe.metrics import class_scores
from neuropipe.schema import Recording

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Door:
    """What was learned of the training data before any model: contacts, scale, classes.

    Attributes
    ----------
    source : VoltageSource
    rate_hz : float
    n_samples : int
        Of a trial.
    classes : tuple of str
        Labels of the training trials, sorted.
    share : (class,)
        Of the training trials.
    channel : dict of subject to tuple of str
    mean, sd : dict of subject to (channel,), V
    """

    source: VoltageSource
    rate_hz: float
    n_samples: int
    classes: tuple[str, ...]
    share: np.ndarray
    channel: dict[str, tuple[str, ...]]
    mean: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]

    def read(self, recording: Recording) -> Voltages:
        """Read a session as the training data were read.

        Raises
        ------
        DataError
            If its subject was not among them, or its rate differs.
        """
        subject = str(recording.attrs.get("subject", ""))
        if subject not in self.channel:
            raise DataError(
                f"voltages: subject {subject!r} was not in the training data, so nothing is known "
                f"of its contacts; fitted were {', '.join(self.channel)}"
            )
        found = read(recording, self.source, self.channel[subject])
        _same_rate(found, self.rate_hz)
        short = found.extent < self.n_samples
        if short.any():
            raise DataError(
                f"voltages: session {found.session}: {int(short.sum())} trials are shorter than "
                f"the {self.n_samples / self.rate_hz:g} s of the training trials; set trial_s"
            )
        return self.scaled(found)

    def scaled(self, found: Voltages) -> Voltages:
        """Return voltages in standard deviations of the training data."""
        mean, sd = self.mean[found.subject], self.sd[found.subject]
        return replace(found, value=((found.value - mean) / sd).astype(np.float32))

    def known(self, found: Voltages) -> np.ndarray:
        """Return which trials have a label of the training data, (trial,) bool."""
        return np.isin(found.label, self.classes)

    def number(self, label: np.ndarray) -> np.ndarray:
        """Return the class of each label, (trial,) int64."""
        return np.searchsorted(np.array(self.classes, dtype=object), label).astype(np.int64)

    def estimates(self, found: Voltages, probability: np.ndarray) -> xr.Dataset:
        """Return ``class_probability (trial, class)`` of the trials that were read, labelled.

        Coordinates: ``class``, ``time (trial)`` where each trial starts, s, and ``label (trial)``.
        """
        said = {"units": ""}
        return xr.Dataset(
            {"class_probability": (("trial", "class"), probability.astype(np.float32),
                                   {"units": "1"})},
            {
                "class": ("class", np.array(self.classes, dtype=object), said),
                "time": ("trial", found.seconds(found.onset), {"units": "s"}),
                "label": ("trial", found.label, said),
            },
        )  # fmt: skip

    def scores(self, estimates: xr.Dataset) -> dict[str, float]:
        """Return `metrics.class_scores` of what `estimates` returned."""
        return class_scores(
            estimates["class_probability"].values, estimates["label"].values, self.classes,
            self.share,
        )  # fmt: skip

    def saved(self) -> dict[str, Any]:
        """Return everything as numbers, text, lists and dicts."""
        return {
            "source": vars(self.source), "rate_hz": self.rate_hz, "n_samples": self.n_samples,
            "classes": list(self.classes), "share": self.share.tolist(),
            "channel": {k: list(v) for k, v in self.channel.items()},
            "mean": {k: v.tolist() for k, v in self.mean.items()},
            "sd": {k: v.tolist() for k, v in self.sd.items()},
        }  # fmt: skip

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Door:
        """Read what `saved` returned."""
        arrays = {k: {s: np.array(v) for s, v in saved[k].items()} for k in ("mean", "sd")}
        return cls(
            VoltageSource(**saved["source"]), saved["rate_hz"], saved["n_samples"],
            tuple(saved["classes"]), np.array(saved["share"]),
            {k: tuple(v) for k, v in saved["channel"].items()}, **arrays,
        )  # fmt: skip


def enter(
    recordings: Sequence[Recording], source: VoltageSource, patch_s: float | None = None
) -> tuple[Door, list[Voltages]]:
    """Read the training sessions, choose contacts, and put all on one scale.

    Parameters
    ----------
    recordings : sequence of DataTree
        Sessions of one or several subjects; sessions of one subject have the same contacts.
    source : VoltageSource
    patch_s : float, optional
        Trials are cut to whole multiples of it.

    Raises
    ------
    DataError
        If nothing was given, sessions of a subject differ in their contacts or rates, a contact
        is constant, or fewer than two labels are there.
    """
    refuse_lone(recordings)
    if not recordings:
        raise DataError("voltages: no recording to fit")
    found = [read(r, source) for r in recordings]
    found.sort(key=lambda v: (v.subject, v.session))
    rate = found[0].rate_hz
    for v in found:
        _same_rate(v, rate)
    n_samples = _trial_samples(found, source, rate, patch_s)
    label = np.concatenate([v.label for v in found])
    classes, count = np.unique(label[label != ""].astype(str), return_counts=True)
    if len(classes) < 2:
        raise DataError(
            f"voltages: the training trials have {len(classes)} labels in column "
            f"{source.labels!r}, expected at least 2; check `labels` and the split"
        )
    channel, mean, sd = {}, {}, {}
    for subject in dict.fromkeys(v.subject for v in found):
        own = [v for v in found if v.subject == subject]
        if any(v.channel != own[0].channel for v in own):
            raise DataError(
                f"voltages: sessions of subject {subject!r} differ in their channels; keep the "
                "same ones with select_channels"
            )
        at = _chosen(own, source, n_samples)
        channel[subject] = tuple(own[0].channel[i] for i in at)
        mean[subject], sd[subject] = _scale([v.value[:, at] for v in own], channel[subject])
        for v in own:
            found[found.index(v)] = replace(
                v, channel=channel[subject], value=v.value[:, at],
                place={k: p[at] for k, p in v.place.items()},
            )  # fmt: skip
    door = Door(
        source, rate, n_samples, tuple(classes.tolist()), count / count.sum(), channel, mean, sd
    )
    return door, [door.scaled(v) for v in found]


def _same_rate(v: Voltages, rate: float) -> None:
    if abs(v.rate_hz / rate - 1) > 1e-6:
        raise DataError(
            f"voltages: session {v.session} has {v.rate_hz:g} samples a second, others {rate:g}; "
            "add the step resample_signal"
        )


def _trial_samples(
    found: Sequence[Voltages], source: VoltageSource, rate: float, patch_s: float | None
) -> int:
    """Return the samples of a trial: those of the shortest one, in whole patches."""
    extent = np.concatenate([v.extent[v.label != ""] for v in found])
    if not len(extent):
        raise DataError(
            f"voltages: no trial with a label in {source.labels!r} lies in the fold's windows as a "
            "whole; add the step cut_trials, lower trial_s, or split by trial or run"
        )
    n = int(extent.min())
    patch = round(patch_s * rate) if patch_s else 1
    if patch < 1:
        raise DataError(
            f"voltages: a patch of {patch_s:g} s holds no sample at {rate:g} Hz; raise patch_s"
        )
    if n < patch:
        raise DataError(
            f"voltages: the shortest trial lasts {n / rate:g} s, less than a patch of {patch_s:g} "
            "s; lengthen trials with cut_trials, or lower patch_s"
        )
    return n // patch * patch


def _chosen(own: Sequence[Voltages], source: VoltageSource, n_samples: int) -> np.ndarray:
    """Return the positions of the contacts to keep, in the order of the recording."""
    n_all = len(own[0].channel)
    if source.n_channels is None or source.n_channels >= n_all:
        return np.arange(n_all)
    value = np.concatenate([v.trials(n_samples, v.label != "") for v in own])
    label = np.concatenate([v.label[v.label != ""] for v in own])
    worth = discriminability(band_features(value, own[0].rate_hz), label)
    kept = np.sort(np.argsort(-worth, kind="stable")[: source.n_channels])
    log.info(
        "voltages: subject %s: kept %s", own[0].subject, ", ".join(own[0].channel[i] for i in kept)
    )
    return kept


def _scale(values: Sequence[np.ndarray], channel: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each contact over all samples, V."""
    n = sum(len(v) for v in values)
    mean = sum(v.sum(0, dtype=np.float64) for v in values) / n
    square = sum(np.square(v - mean, dtype=np.float64).sum(0) for v in values) / n
    sd = np.sqrt(square)
    still = ~(sd > 0)
    if still.any():
        raise DataError(
            f"voltages: channel {channel[int(still.argmax())]!r} is constant in the training "
            "windows; leave it out with select_channels"
        )
    return np.asarray(mean), np.asarray(sd)
