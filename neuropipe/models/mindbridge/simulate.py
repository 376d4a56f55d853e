"""BOLD sessions of several subjects who saw images of one planted world, with their truth.

Images have latent causes, from which image codes, text codes and shared functional channels
follow. Each subject's voxels read these channels, smoothly in space and in a layout of their own.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.models.mindbridge.scanner import draw_motion, draw_noise
from neuropipe.runtime import generator
from neuropipe.schema import SCHEMA_VERSION, Recording

VOXELS = (480, 430, 390)  # a thirty-third of those of NSD's subjects 1, 2, 5
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HRF_STEP_S = 0.05
HRF_LENGTH_S = 32.0


class Plan(BaseModel):
    """What to draw; the defaults are a session of half an hour, 290 trials, 2 MB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stimuli: Literal["planted", "photographs"] = Field(
        "planted",
        description="Image and text codes of latents, or real features of crops of photographs and "
        "of their captions, whose leading components the latents are (extra `encoders`).",
    )
    subject: int = Field(1, ge=1, description="Whose brain; the world depends on the seed alone.")
    n_voxels: int | None = Field(
        None, ge=1, description="None: 480, 430, 390 for subjects 1, 2, 3, then again."
    )
    voxel_mm: float = Field(3.0, gt=0)
    n_own: int = Field(200, ge=0, description="Images that only this subject sees, once each.")
    n_shared: int = Field(30, ge=1, description="Images that all subjects see.")
    n_repetitions: int = Field(3, ge=1, description="Times that each shared image is shown.")
    n_runs: int = Field(5, ge=1)
    trial_interval_s: float = Field(6.0, gt=0, description="From one onset to the next.")
    stimulus_s: float = Field(3.0, gt=0)
    repetition_time_s: float = Field(1.6, gt=0)
    lead_s: float = Field(8.0, ge=0, description="Rest before the first trial of a run.")
    tail_s: float = Field(16.0, ge=0, description="Rest after the last onset's interval.")
    n_latent: int = Field(24, ge=2, description="Causes of an image; 96 in the recipe.")
    n_functional: int = Field(96, ge=1, description="Shared functional channels; 240 there.")
    image_tokens: int = Field(17, ge=1)
    text_tokens: int = Field(8, ge=1)
    token_features: int = Field(64, ge=1)
    topographic: float = Field(0.7, ge=0, le=1, description="Share of the smooth layout.")
    layout_mm: float = Field(4.0, gt=0, description="Radius of a functional channel.")
    snr: float = Field(
        0.25, ge=0, description="Variance over images over variance of a trial's own noise."
    )
    beta_percent: float = Field(1.0, gt=0, description="Spread and mean of betas, of baseline.")
    noise_percent: float = Field(0.5, ge=0, description="Scanner noise, of baseline.")
    noise_memory: float = Field(0.3, ge=0, lt=1, description="Its correlation over one volume.")
    drift_percent: float = Field(1.0, ge=0, description="Slow drift, of baseline.")
    motion_percent: float = Field(0.3, ge=0, description="Change per mm or degree of motion.")
    n_spikes: int = Field(2, ge=0, description="Sudden movements of each run.")

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        if self.n_own + self.n_shared * self.n_repetitions < self.n_runs:
            raise ValueError("fewer trials than n_runs; raise n_own or n_repetitions")
        if self.stimulus_s > self.trial_interval_s:
            raise ValueError("stimulus_s is longer than trial_interval_s")
        return self


class World(NamedTuple):
    """What all subjects share: maps from latent causes, drawn from the seed alone."""

    image: np.ndarray
    image_bend: np.ndarray
    image_offset: np.ndarray
    text: np.ndarray
    text_offset: np.ndarray
    functional: np.ndarray
    shared_latent: np.ndarray

    def image_code(self, z: np.ndarray) -> np.ndarray:
        """Return (stimulus, feature) image codes of latents (stimulus, latent)."""
        return z @ self.image.T + 0.7 * np.tanh(1.5 * z @ self.image_bend.T) + self.image_offset

    def text_code(self, z: np.ndarray) -> np.ndarray:
        """Return (stimulus, feature) text codes, which know half of the latents."""
        return z @ self.text.T + self.text_offset

    def channels(self, z: np.ndarray) -> np.ndarray:
        """Return (stimulus, functional channel) responses, never negative."""
        return np.maximum(z @ self.functional.T, 0)


def draw_world(plan: Plan, seed: int) -> World:
    """Draw the maps; the spread of functional channels falls over latents as k^-1/2."""
    rng = generator(seed, "world")
    k = plan.n_latent
    n_image = plan.image_tokens * plan.token_features
    n_text = plan.text_tokens * plan.token_features
    text = rng.normal(size=(n_text, k)) / math.sqrt(k)
    text[:, k // 2 :] = 0
    return World(
        image=rng.normal(size=(n_image, k)) / math.sqrt(k),
        image_bend=rng.normal(size=(n_image, k)) / math.sqrt(k),
        image_offset=0.6 * rng.normal(size=n_image),  # CLIP's vectors are not centred either
        text=text,
        text_offset=0.6 * rng.normal(size=n_text),
        functional=rng.normal(size=(plan.n_functional, k)) / np.sqrt(np.arange(1, k + 1)),
        shared_latent=rng.normal(size=(plan.n_shared, k)),
    )


def place_voxels(n_voxels: int) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Fill a ball in a small grid: (voxel, 3) indices in the grid's order, and its shape."""
    n = max(2, math.ceil((n_voxels / 0.45) ** (1 / 3)))
    shape = (n + 1, n, n)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    centre = (np.array(shape) - 1) / 2
    distance = (((index - centre) / centre) ** 2).sum(1)
    inside = np.sort(np.argsort(distance, kind="stable")[:n_voxels])
    return index[inside], shape


def canonical_hrf(t: np.ndarray) -> np.ndarray:
    """Return SPM's double gamma at times (...) s: t^5 e^-t / 5! - t^15 e^-t / (6 * 15!)."""
    t = np.maximum(t, 0)
    return np.exp(-t) * (t**5 / math.factorial(5) - t**15 / (6 * math.factorial(15)))


def response(duration_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return times and the response to a stimulus of some duration, of peak 1."""
    t = np.arange(0, HRF_LENGTH_S + duration_s, HRF_STEP_S)
    gained = np.cumsum(canonical_hrf(t)) * HRF_STEP_S
    late = np.interp(t - duration_s, t, gained, left=0)
    return t, (gained - late) / (gained - late).max()


def design(volume_time: np.ndarray, onset: np.ndarray, duration_s: float) -> np.ndarray:
    """Return the (time, trial) responses of single trials at the volumes' onsets."""
    t, shape = response(duration_s)
    return np.interp(volume_time[:, None] - onset, t, shape, left=0, right=0)


def draw_betas(
    plan: Plan, place_mm: np.ndarray, world: World, z: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the (trial, voxel) percent that images drive, and the betas with the trials' own noise.

    z : (trial, latent)
    """
    n_voxels, m = len(place_mm), plan.n_functional
    low, high = place_mm.min(0), place_mm.max(0)
    centre = rng.uniform(low, high + 1e-6, size=(m, 3))
    distance = np.linalg.norm(place_mm[:, None] - centre, axis=2)
    smooth = np.exp(-0.5 * (distance / plan.layout_mm) ** 2)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True) + 1e-12
    own = rng.normal(size=(n_voxels, m)) / math.sqrt(m)
    mix = plan.topographic * smooth + (1 - plan.topographic) * own
    gain = rng.lognormal(0, 0.4, n_voxels)
    common = world.channels(rng.normal(size=(2000, plan.n_latent))) @ mix.T
    driven = (world.channels(z) @ mix.T - common.mean(0)) / (common.std(0) + 1e-6)
    loading = rng.normal(size=(n_voxels, 12)) / math.sqrt(12)
    trial = 0.8 * rng.normal(size=driven.shape)
    trial += 0.6 * rng.normal(size=(len(z), 12)) @ loading.T
    signal = plan.beta_percent * gain * (1 + math.sqrt(plan.snr) * driven)
    return signal, signal + plan.beta_percent * gain * trial


def draw_stimuli(
    plan: Plan, world: World, rng: np.random.Generator, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray | None]:
    """Return what a subject sees.

    Returns
    -------
    z : (stimulus, latent)
    codes : mapping of image and text to (stimulus, feature)
    about : mapping of ``stimulus`` and more columns to (stimulus,) names
    pictures : (stimulus, y, x, color) or None
    """
    if plan.stimuli == "photographs":
        from neuropipe.models.mindbridge.photographs import shown

        found = shown(plan.subject, plan.n_own, plan.n_shared, plan.n_latent, seed)
        return (
            found.latent,
            {"image": found.image, "text": found.text},
            found.about(),
            found.picture,
        )
    z = np.concatenate([world.shared_latent, rng.normal(size=(plan.n_own, plan.n_latent))])
    names = [f"shared{i + 1:04d}" for i in range(plan.n_shared)]
    names += [f"own{plan.subject}{i + 1:05d}" for i in range(plan.n_own)]
    codes = {"image": world.image_code(z), "text": world.text_code(z)}
    return z, codes, {"stimulus": np.array(names, dtype=object)}, None


def simulate(plan: Plan, seed: int) -> tuple[Recording, xr.Dataset]:
    """Draw one subject's session.

    Parameters
    ----------
    plan : Plan
        Sizes, strengths, and whose brain. Plans that differ in ``subject`` alone draw the same
        shared images and codes for another brain with another number of voxels.
    seed : int
        Of all draws.

    Returns
    -------
    recording : DataTree
        Nodes `bold` (1, as scanned), `confounds` (six motion parameters and
        framewise_displacement), `intervals/events` with the image in column ``stimulus``,
        `embedding` and `text_embedding` (image and text codes, tokens side by side) and `runs`.
        Of photographs, events have the columns ``tile`` and ``photograph`` that a stimulus was cut
        from, and node `stimulus/pictures` shows it.
    truth : Dataset
        ``beta`` and ``driven (trial, voxel)`` % of baseline, with and without the trial's own
        noise; ``baseline (voxel)``; ``image_code`` and ``text_code (stimulus, feature)``;
        ``stimulus_index (trial)``; ``hrf (lag)``, the response to one stimulus, of peak 1, to
        which betas refer.

    Notes
    -----
    Volumes are taken at once, at their onset: there is no slice timing. Source: canonical
    response of SPM12's ``spm_hrf``; displacement of Power et al. (2012); the world follows the
    shape of MindBridge's data (Wang et al., CVPR 2024): unequal voxels, image and text codes.
    """
    world = draw_world(plan, seed)
    rng = generator(seed, f"subject-{plan.subject}")
    n_voxels = plan.n_voxels or VOXELS[(plan.subject - 1) % len(VOXELS)]
    index, shape = place_voxels(n_voxels)
    affine = np.diag([*[plan.voxel_mm] * 3, 1.0])
    affine[:3, 3] = -plan.voxel_mm * (np.array(shape) - 1) / 2 + [0, -60, 0]
    place = index @ affine[:3, :3].T + affine[:3, 3]

    z, codes, about, pictures = draw_stimuli(plan, world, rng, seed)
    stimulus = about.pop("stimulus")
    shown = np.concatenate(
        [np.tile(np.arange(plan.n_shared), plan.n_repetitions), np.arange(plan.n_shared, len(z))]
    )
    shown = rng.permutation(shown)
    driven, beta = draw_betas(plan, place, world, z[shown], rng)
    baseline = 1000 * rng.lognormal(0, 0.2, n_voxels)

    parts, motions, onsets, labels = [], [], [], []
    run_start = [0.0]
    for run, trials in enumerate(np.array_split(np.arange(len(shown)), plan.n_runs)):
        onset = plan.lead_s + plan.trial_interval_s * np.arange(len(trials))
        length = onset[-1] + plan.trial_interval_s + plan.tail_s
        n_volumes = max(2, math.ceil(length / plan.repetition_time_s))
        volume = np.arange(n_volumes) * plan.repetition_time_s
        motion = draw_motion(n_volumes, plan.n_spikes, rng)
        percent = design(volume, onset, plan.stimulus_s) @ beta[trials]
        percent += draw_noise(plan, motion, n_voxels, rng)
        parts.append((baseline * (1 + percent / 100)).astype(np.float32))
        motions.append(np.column_stack(motion))
        onsets.append(onset + run_start[-1])
        labels += [f"{run + 1:02d}"] * len(trials)
        run_start.append(run_start[-1] + n_volumes * plan.repetition_time_s)
    onset = np.concatenate(onsets)
    clock = np.concatenate(
        [at + np.arange(len(p)) * plan.repetition_time_s
         for at, p in zip(run_start, parts, strict=False)]
    )  # fmt: skip
    time = ("time", clock, {"units": "s"})
    voxel = {
        a: ("voxel", index[:, d].astype(np.int32), {"units": "1"}) for d, a in enumerate("ijk")
    }
    voxel |= {a: ("voxel", place[:, d], {"units": "mm"}) for d, a in enumerate("xyz")}
    names = np.array([*MOTION, "framewise_displacement"], dtype=object)
    units = np.array(["mm"] * 3 + ["rad"] * 3 + ["mm"], dtype=object)
    image = ("stimulus", stimulus, {"units": ""})
    nodes = {
        "/": xr.Dataset(
            attrs={
                "dataset": "planted_mindbridge",
                "subject": f"planted{plan.subject}",
                "session": f"planted{plan.subject}-{seed}",
                "source": "simulated",
                "sha256": "",
                "history": "[]",
                "schema_version": SCHEMA_VERSION,
            }
        ),
        "/bold": xr.Dataset(
            {"bold": (("time", "voxel"), np.concatenate(parts), {"units": "1"})},
            {"time": time, **voxel},
            {
                "affine": affine.ravel().tolist(),
                "grid_shape": list(shape),
                "repetition_time_s": plan.repetition_time_s,
                "space": "native",
                "task": "images",
            },
        ),
        "/confounds": xr.Dataset(
            {"confound_value": (("time", "confound"), np.concatenate(motions), {"units": "mixed"})},
            {
                "time": time,
                "confound": ("confound", names, {"units": ""}),
                "confound_unit": ("confound", units, {"units": ""}),
            },
        ),
        "/intervals/events": xr.Dataset(
            {
                "start_time": ("interval", onset, {"units": "s"}),
                "stop_time": ("interval", onset + plan.stimulus_s, {"units": "s"}),
                "trial_type": ("interval", np.full(len(shown), "image", object), {"units": ""}),
                "stimulus": ("interval", stimulus[shown], {"units": ""}),
                "run_label": ("interval", np.array(labels, dtype=object), {"units": ""}),
                **{name: ("interval", of[shown], {"units": ""}) for name, of in about.items()},
            }
        ),
        "/embedding": xr.Dataset(
            {
                "embedding": (
                    ("stimulus", "feature"),
                    codes["image"].astype(np.float32),
                    {"units": "1"},
                )
            },
            {"stimulus": image},
        ),
        "/text_embedding": xr.Dataset(
            {
                "embedding": (
                    ("stimulus", "feature"),
                    codes["text"].astype(np.float32),
                    {"units": "1"},
                )
            },
            {"stimulus": image},
        ),
        "/runs": xr.Dataset(
            {
                "run_label": ("run", np.array(list(dict.fromkeys(labels)), object), {"units": ""}),
                "start_time": ("run", np.array(run_start[:-1]), {"units": "s"}),
                "stop_time": ("run", np.array(run_start[1:]), {"units": "s"}),
            },
            attrs={"clock": "runs laid end to end"},
        ),
    }
    if pictures is not None:
        nodes["/stimulus/pictures"] = xr.Dataset(
            {"frame_color": (("frame", "y", "x", "color"), pictures, {"units": "1"})},
            {"stimulus": ("frame", stimulus, {"units": ""})},
        )
    lag, hrf = response(plan.stimulus_s)
    truth = xr.Dataset(
        {
            "beta": (("trial", "voxel"), beta, {"units": "%"}),
            "driven": (("trial", "voxel"), driven, {"units": "%"}),
            "baseline": ("voxel", baseline, {"units": "1"}),
            "stimulus_index": ("trial", shown, {"units": "1"}),
            "start_time": ("trial", onset, {"units": "s"}),
            "image_code": (("stimulus", "image_feature"), codes["image"], {"units": "1"}),
            "text_code": (("stimulus", "text_feature"), codes["text"], {"units": "1"}),
            "hrf": ("lag", hrf, {"units": "1"}),
        },
        {"stimulus": image, "lag": ("lag", lag, {"units": "s"}), **voxel},
        {"seed": seed, **plan.model_dump(exclude={"n_voxels"}), "n_voxels": n_voxels},
    )
    return xr.DataTree.from_dict(nodes), truth
