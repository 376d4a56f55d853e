"""What a fitted MindBridge has learned, as labelled arrays and as tensors on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from neuropipe.batching.stimuli import Codes, Scaling, Subject, averaged
from neuropipe.models.mindbridge.batches import unit_codes
from neuropipe.models.mindbridge.bridging import Fitted
from neuropipe.models.mindbridge.config import REVISION, Config
from neuropipe.models.mindbridge.model import Bridge, Form, n_parameters
from neuropipe.models.mindbridge.start import Components, Power

MOST_STIMULI = 256  # that voxel importance is taken over
PARTS = ("aggregation", "embedders", "builders", "translator", "heads")


def part_sizes(bridge: Bridge) -> dict[str, int]:
    """Return how many numbers each part of a bridge learns."""
    own = [bridge.subject(s) for s in range(len(bridge.subjects))]

    def size(*modules: torch.nn.Module | None) -> int:
        return sum(n_parameters(m) for m in modules if m is not None)

    return {
        "aggregation": sum(size(s.gather, s.spread) for s in own),
        "embedders": sum(size(s.embedder) for s in own),
        "builders": sum(size(s.builder) for s in own),
        "translator": size(bridge.translator),
        "heads": size(bridge.heads, bridge.base),
    }


def importance(fitted: Fitted, subject: Subject, unit: Mapping[str, Tensor]) -> np.ndarray:
    """Return how much each voxel moves the right embedding's cosine, (voxel,), summing to 1.

    Mean square over training stimuli of the derivative by the z-scored voxel.
    """
    row, mean, _ = averaged(subject.response, subject.row)
    row, mean = row[:MOST_STIMULI], mean[:MOST_STIMULI]
    device = next(fitted.bridge.parameters()).device
    x = torch.tensor(mean, dtype=torch.float32, device=device, requires_grad=True)
    guess = fitted.bridge.predict(fitted.bridge.encode(x, fitted.names.index(subject.name)))
    true = {n: F.normalize(unit[n][torch.as_tensor(row)] - fitted.mean[n], dim=1) for n in guess}
    likeness = torch.stack([F.cosine_similarity(p, true[n]).sum() for n, p in guess.items()])
    [slope] = torch.autograd.grad(likeness.sum(), x)
    power = slope.square().mean(0).double().cpu().numpy()
    return power / max(power.sum(), 1e-300)


def labelled(
    fits: Mapping[str, Fitted], subjects: Sequence[Subject], codes: Codes, curve: xr.Dataset | None,
    seed: int,
) -> xr.Dataset:  # fmt: skip
    """Return sizes, voxel importance and, where it was asked for, the adaptation curve."""
    device = next(next(iter(fits.values())).bridge.parameters()).device
    unit = unit_codes(codes, device)
    one, text = {"units": "1"}, {"units": ""}
    distinct = list({id(f): f for f in fits.values()}.values())
    sizes = [part_sizes(f.bridge) for f in distinct]
    share = np.concatenate([importance(fits[s.name], s, unit) for s in subjects])
    place = np.concatenate([s.scaling.place[s.scaling.voxel] for s in subjects])
    names = np.array([s.name for s in subjects], dtype=object)
    n_voxels = np.array([s.response.shape[1] for s in subjects])
    out = xr.Dataset(
        {
            "n_voxels": ("subject", n_voxels, one),
            "n_trials": ("subject", np.array([len(s.row) for s in subjects]), one),
            "n_stimuli_seen": ("subject", np.array([len(set(s.row)) for s in subjects]), one),
            "n_epochs": (
                "subject", np.array([int(fits[n].course.attrs["n_epochs"]) for n in names]), one,
            ),
            "parameter_count": ("part", np.array([sum(s[p] for s in sizes) for p in PARTS]), one),
            "voxel_importance": ("voxel", share, one),
            "voxel_signal": ("voxel", np.concatenate([s.scaling.signal for s in subjects]), one),
        },
        {
            "subject": ("subject", names, text),
            "start": (
                "subject",
                np.array([fits[n].started[fits[n].names.index(n)] for n in names], object), text,
            ),
            "part": ("part", np.array(PARTS, dtype=object), text),
            "voxel_subject": ("voxel", np.repeat(names, n_voxels), text),
            **{a: ("voxel", place[:, d].astype(np.int32), one) for d, a in enumerate("ijk")},
        },
        {"seed": seed},
    )  # fmt: skip
    return out if curve is None else out.merge(curve).assign_attrs({**out.attrs, **curve.attrs})


def course(fits: Mapping[str, Fitted]) -> xr.Dataset:
    """Return the course of training; of several networks the mean over those still training."""
    distinct = list({id(f): f for f in fits.values()}.values())
    if len(distinct) == 1:
        return distinct[0].course
    parts = [f.course.assign_coords(step=np.arange(f.course.sizes["step"])) for f in distinct]
    whole = xr.concat(parts, "network", join="outer", combine_attrs="drop", data_vars="all")
    out = whole.mean("network", keep_attrs=True).drop_vars("step")
    out.attrs = {
        "converged": int(all(f.course.attrs["converged"] for f in distinct)),
        "seconds": sum(f.course.attrs["seconds"] for f in distinct),
    }
    return out


def fingerprint(
    subjects: Sequence[Subject], codes: Codes, config: Config, seed: int
) -> str:  # fmt: skip
    """Return what a fit depends on, in short."""
    text = f"{REVISION} {seed} {config.model_dump_json()} {codes.stimulus}"
    digest = hashlib.sha256(text.encode())
    for subject in subjects:
        digest.update(subject.name.encode())
        digest.update(np.ascontiguousarray(subject.response).tobytes())
    for value in (codes.image, codes.text):
        if value is not None:
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def packed(fitted: Fitted) -> dict[str, Any]:
    """Return a fitted bridge as tensors, numbers and text."""
    c = fitted.components
    return {
        "form": asdict(fitted.bridge.form), "names": list(fitted.names),
        "n_voxels": list(fitted.n_voxels), "length": dict(fitted.length),
        "state": {k: v.cpu() for k, v in fitted.bridge.state_dict().items()},
        "mean": {k: v.cpu() for k, v in fitted.mean.items()},
        "components": None if c is None else [v.cpu() for v in c],
        "power": [[p.value.cpu(), p.n_stimuli] for p in fitted.power],
        "started": list(fitted.started),
    }  # fmt: skip


def unpacked(saved: Mapping[str, Any]) -> Fitted:
    """Return what `packed` was given, on CPU and without the course."""
    bridge = Bridge(Form(**saved["form"]), saved["n_voxels"])
    bridge.load_state_dict(saved["state"])
    components = None if saved["components"] is None else Components(*saved["components"])
    return Fitted(
        bridge.eval(), tuple(saved["names"]), tuple(saved["n_voxels"]), saved["mean"],
        saved["length"], components, tuple(Power(*p) for p in saved["power"]),
        tuple(saved["started"]), xr.Dataset(),
    )  # fmt: skip


def packed_scaling(scaling: Scaling) -> dict[str, Any]:
    """Return a scaling as tensors."""
    return {
        "place": torch.as_tensor(scaling.place), "voxel": torch.as_tensor(scaling.voxel),
        "mean": {k: torch.as_tensor(v) for k, v in scaling.mean.items()},
        "sd": {k: torch.as_tensor(v) for k, v in scaling.sd.items()},
        "signal": torch.as_tensor(scaling.signal),
    }  # fmt: skip


def unpacked_scaling(saved: Mapping[str, Any]) -> Scaling:
    """Return what `packed_scaling` was given."""
    return Scaling(
        saved["place"].numpy(), saved["voxel"].numpy(),
        {k: v.numpy() for k, v in saved["mean"].items()},
        {k: v.numpy() for k, v in saved["sd"].items()}, saved["signal"].numpy(),
    )  # fmt: skip
