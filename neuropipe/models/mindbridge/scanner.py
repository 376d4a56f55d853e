"""What a scanner adds to planted responses: movements of the head, drift and noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from neuropipe.models.mindbridge.simulate import Plan

HEAD_RADIUS_MM = 50.0  # Power et al. (2012)


class Motion(NamedTuple):
    """Head motion of one run: (time, 6) mm and rad, and (time,) displacement, NaN at first."""

    parameters: np.ndarray
    displacement: np.ndarray


def draw_motion(n_volumes: int, n_spikes: int, rng: np.random.Generator) -> Motion:
    """Draw a slow walk of the head with sudden movements that partly stay."""
    steps = rng.normal(size=(n_volumes, 6)) * [*[0.01] * 3, *[0.0001] * 3]
    spikes = rng.choice(np.arange(1, n_volumes), min(n_spikes, n_volumes - 1), replace=False)
    steps[spikes] += rng.choice([-1, 1], size=(len(spikes), 6)) * [*[0.25] * 3, *[0.004] * 3]
    moved = steps.cumsum(0)
    moved -= moved[0]
    arc = np.abs(np.diff(moved, axis=0)) * [1, 1, 1, *[HEAD_RADIUS_MM] * 3]
    return Motion(moved, np.concatenate([[np.nan], arc.sum(1)]))


def draw_noise(plan: Plan, motion: Motion, n_voxels: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (time, voxel) percent: autoregressive noise, cosines above 128 s, motion."""
    n = len(motion.parameters)
    noise = rng.normal(size=(n, n_voxels))
    keep = math.sqrt(1 - plan.noise_memory**2)
    for t in range(1, n):
        noise[t] = plan.noise_memory * noise[t - 1] + keep * noise[t]
    n_slow = int(2 * n * plan.repetition_time_s / 128)
    phase = np.pi * (np.arange(n) + 0.5)[:, None] / n
    slow = np.cos(phase * np.arange(1, n_slow + 1)) @ rng.normal(size=(n_slow, n_voxels))
    slow *= plan.drift_percent / math.sqrt(max(n_slow, 1) / 2)
    shift = motion.parameters * [1, 1, 1, *[180 / np.pi] * 3]
    moved = shift @ rng.normal(size=(6, n_voxels)) * plan.motion_percent
    return plan.noise_percent * noise + slow + moved
