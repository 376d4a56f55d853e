"""What a fit has learned, laid out as labelled arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuropipe.batching.door import Door
from neuropipe.batching.epochs import Voltages
from neuropipe.models.du_in.batches import in_turn
from neuropipe.models.du_in.codebook import perplexity
from neuropipe.models.du_in.config import REVISION
from neuropipe.models.du_in.contributions import Contribution
from neuropipe.models.du_in.model import Classifier, MaskedNet, UnitNet
from neuropipe.models.du_in.stages import Fit, code_use, masked_scores, trial_logits
from neuropipe.training.history import History

ONE, TEXT = {"units": "1"}, {"units": ""}


def text(values: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return text as an array that stores keep."""
    return np.array([str(v) for v in values], dtype=object)


def histories(history: Mapping[str, History]) -> xr.Dataset:
    """Return the course of all stages; that of stage 3 is ``objective (step)``.

    Other stages have steps of their own: ``units_objective (units_step)`` with ``warm`` before it,
    ``masked_objective (masked_step)``, and so on for all of their terms.
    """
    parts = []
    for stage, course in history.items():
        found = course.dataset("nats" if stage in ("masked", "decode") else "1")
        for name in ("accuracy", "perplexity"):
            if name in found:
                found[name].attrs["units"] = "1"
        if stage != "decode":
            names = {str(n): f"{stage}_{n}" for n in found.data_vars}
            found = found.rename({**names, "step": f"{stage}_step"})
        parts.append(found.drop_attrs(deep=False))
    out = xr.merge(parts, join="exact")
    last = history["decode"]
    out.attrs = {
        "converged": int(last.converged), "best_step": last.best,
        "seconds": round(sum(h.seconds for h in history.values()), 3),
        **{f"{name}_best_step": h.best for name, h in history.items() if name != "decode"},
    }  # fmt: skip
    return out


def labelled(
    fit: Fit,
    door: Door,
    found: Sequence[Voltages],
    units: UnitNet | None,
    masked: MaskedNet | None,
    decoder: Classifier,
    contacts: Contribution,
) -> xr.Dataset:
    """Return everything learned as one Dataset, the estimator's `learns`."""
    place = {v.subject: v.place for v in found}
    variables: dict[str, Any] = {
        "class_share": ("class", door.share, ONE),
        "confusion": (("class", "predicted_class"), _confusion(fit, decoder), ONE),
        "contact_weight": ("channel", contacts.weight, ONE),
    }
    if np.isfinite(contacts.told).any():
        variables["contact_contribution"] = ("channel", contacts.told, {"units": "nats"})
        variables["contact_z"] = ("channel", contacts.z, ONE)
        variables["contact_p"] = ("channel", contacts.p, ONE)
    coords: dict[str, Any] = {
        "class": ("class", text(door.classes), TEXT),
        "predicted_class": ("predicted_class", text(door.classes), TEXT),
        "channel": ("channel", text([c for s in door.channel for c in door.channel[s]]), TEXT),
        "subject": ("channel", text([s for s in door.channel for _ in door.channel[s]]), TEXT),
    }
    for name in sorted(set.intersection(*(set(p) for p in place.values()))):
        value = np.concatenate([place[s][name] for s in door.channel])
        words = name in ("shaft", "region")
        coords[name] = ("channel", text(value), TEXT) if words else (
            "channel", value.astype(float), {"units": "mm"}
        )  # fmt: skip
    if units is not None:
        variables |= _of_units(fit, units)
        rate = found[0].rate_hz
        coords["lag"] = ("lag", np.arange(fit.length) / rate, {"units": "s"})
    if masked is not None and units is not None and fit.pretraining == "masked":
        variables["masked_accuracy"] = (
            (),
            masked_scores(fit, masked, units.codes)["accuracy"],
            ONE,
        )
    attrs = {
        "pretraining": fit.pretraining, "patch_s": fit.sizes.patch / found[0].rate_hz,
        "n_fitted_trials": len(fit.trials), "n_fitted_windows": len(fit.windows),
        "revision": REVISION,
    }  # fmt: skip
    return xr.Dataset(variables, coords, attrs)


def _confusion(fit: Fit, decoder: Classifier) -> np.ndarray:
    """Count the validating trials of each class by what they were taken for."""
    out = np.zeros((fit.n_classes, fit.n_classes), dtype=np.int64)
    logits = trial_logits(decoder, fit.bank, fit.judged, fit.trial)
    np.add.at(out, (fit.judged.y, logits.argmax(1).cpu().numpy()), 1)
    return out


def _of_units(fit: Fit, units: UnitNet) -> dict[str, Any]:
    """Return the use of codes, and the first validating window with its reconstruction."""
    batch = next(in_turn(fit.bank, fit.validating.of(np.arange(1)), fit.length))
    n = int(fit.bank.present[batch["subject"][0]].sum())
    with torch.no_grad():
        tokens = units.encoder(batch["x"], batch["subject"])
        point = units.codebook.project(tokens)
        if fit.pretraining != "points":
            point = units.codebook.code[units.codebook.search(point)]
        again = units.decoder(units.codebook.back(point), batch["subject"])
    out: dict[str, Any] = {
        "example_voltage": (("lag", "contact"), batch["x"][0, :, :n].cpu().numpy(), ONE),
        "example_reconstruction": (("lag", "contact"), again[0, :, :n].cpu().numpy(), ONE),
    }
    if fit.pretraining != "points":
        use = code_use(units, fit.bank, fit.windows, fit.length)
        out["code_count"] = ("code", use.cpu().numpy(), ONE)
        out["code_perplexity"] = ((), float(perplexity(use)), ONE)
    return out
