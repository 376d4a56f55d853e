"""Calcium sessions of several animals with planted groups of neurons, and their truth.

Groups of neurons have common events in windows of their own, in some of the animals. All animals
share neurons by name, and each lacks some of them.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.runtime import generator
from neuropipe.schema import SCHEMA_VERSION, Recording


class Plan(BaseModel):
    """What to draw; the defaults are a minute of 40 neurons of one animal of six."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    animal: int = Field(1, ge=1, description="Which animal; groups depend on the seed alone.")
    n_animals: int = Field(6, ge=1, description="Animals that groups are spread over.")
    n_units: int = Field(40, ge=4)
    n_windows: int = Field(240, ge=20, description="Frames of the session.")
    n_groups: int = Field(4, ge=1)
    overlap: int = Field(4, ge=0, description="Neurons that also join the next group.")
    frame_rate_hz: float = Field(4.0, gt=0)
    snr: float = Field(1.0, gt=0, description="Sd of the noiseless traces over that of the noise.")
    decay_frames: float = Field(6.0, gt=0, description="Decay of the calcium response.")
    private_rate: float = Field(0.02, ge=0, description="Events a neuron and frame of its own.")
    common_events: int = Field(6, ge=1, description="Events of a group in its window.")
    reliability: float = Field(0.9, gt=0, le=1, description="Chance that a member takes part.")
    participation: float = Field(0.7, gt=0, le=1, description="Share of animals with a group.")
    missing: float = Field(0.1, ge=0, lt=1, description="Share of neurons that an animal lacks.")

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        if self.animal > self.n_animals:
            raise ValueError("animal is above n_animals")
        if self.n_units < 2 * (self.n_groups + 1):
            raise ValueError("n_units is below two neurons a group; lower n_groups")
        return self


def draw_world(plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw what all animals share.

    Returns
    -------
    member : (group, unit) bool
        The last share of neurons belongs to no group.
    active : (group, window) bool
        17.5 % of the session each, with four groups.
    taking_part : (group, animal) bool
    """
    rng = generator(seed, "world")
    n, t, c = plan.n_units, plan.n_windows, plan.n_groups
    member = np.zeros((c, n), bool)
    for g in range(c):
        member[g, g * n // (c + 1) : (g + 1) * n // (c + 1)] = True
    grouped = (c * n) // (c + 1)
    for unit in rng.choice(grouped, min(plan.overlap, grouped), replace=False):
        member[(int(np.argmax(member[:, unit])) + 1) % c, unit] = True
    active = np.zeros((c, t), bool)
    for g in range(c):
        active[g, int(t * (g + 0.15) / c) : int(t * (g + 0.85) / c)] = True
    taking_part = rng.random((c, plan.n_animals)) < plan.participation
    for g in range(c):
        if not taking_part[g].any():
            taking_part[g, rng.integers(plan.n_animals)] = True
    return member, active, taking_part


def draw_traces(plan: Plan, seed: int) -> np.ndarray:
    """Draw one animal's traces (window, unit), missing neurons included."""
    member, active, taking_part = draw_world(plan, seed)
    rng = generator(seed, f"animal-{plan.animal}")
    t = plan.n_windows
    events = rng.poisson(plan.private_rate, (plan.n_units, t)).astype(float)
    for g in np.flatnonzero(taking_part[:, plan.animal - 1]):
        at = np.flatnonzero(active[g])
        onset = np.sort(rng.choice(at, min(plan.common_events, len(at)), replace=False))
        for unit in np.flatnonzero(member[g]):
            joins = rng.random(len(onset)) < plan.reliability
            late = np.minimum(onset + rng.integers(0, 2, len(onset)), t - 1)
            np.add.at(events[unit], late[joins], rng.gamma(4, 0.5, len(onset))[joins])
    kernel = np.exp(-np.arange(min(t, int(10 * plan.decay_frames))) / plan.decay_frames)
    trace = np.stack([np.convolve(e, kernel)[:t] for e in events], 1)
    return trace + trace.std() / plan.snr * rng.standard_normal(trace.shape)


def simulate(plan: Plan, seed: int) -> tuple[Recording, xr.Dataset]:
    """Draw one animal's session.

    Parameters
    ----------
    plan : Plan
        Sizes, and which animal. Plans that differ in ``animal`` alone share groups and windows.
    seed : int
        Of all draws.

    Returns
    -------
    recording : DataTree
        Node `calcium/cells` with ``dff (time, roi)`` of named neurons.
    truth : Dataset
        ``member (group, unit)``, ``active (group, window)``, ``taking_part (group, animal)``, and
        ``present (unit)``, the neurons that this animal shows.
    """
    member, active, taking_part = draw_world(plan, seed)
    trace = draw_traces(plan, seed)
    n_lost = round(plan.missing * plan.n_units)
    lost = generator(seed, f"missing-{plan.animal}").choice(plan.n_units, n_lost, replace=False)
    present = np.ones(plan.n_units, bool)
    present[lost] = False
    names = np.array([f"N{n + 1:03d}" for n in range(plan.n_units)], dtype=object)
    time = np.arange(plan.n_windows) / plan.frame_rate_hz
    nodes = {
        "/": xr.Dataset(
            attrs={
                "dataset": "planted_ntf_connectome",
                "subject": f"planted{plan.animal}",
                "session": f"planted{plan.animal}-{seed}",
                "source": "simulated",
                "sha256": "",
                "history": "[]",
                "schema_version": SCHEMA_VERSION,
            }
        ),
        "/calcium/cells": xr.Dataset(
            {"dff": (("time", "roi"), trace[:, present].astype(np.float32), {"units": "1"})},
            {
                "time": ("time", time, {"units": "s"}),
                "roi": ("roi", names[present], {"units": ""}),
            },
        ),
    }
    one = {"units": "1"}
    truth = xr.Dataset(
        {
            "member": (("group", "unit"), member, one),
            "active": (("group", "window"), active, one),
            "taking_part": (("group", "animal"), taking_part, one),
            "present": ("unit", present, one),
        },
        {
            "unit": ("unit", names, {"units": ""}),
            "time": ("window", time, {"units": "s"}),
            "animal": (
                "animal",
                np.array([f"planted{w + 1}" for w in range(plan.n_animals)], dtype=object),
                {"units": ""},
            ),
        },
        {"seed": seed, **plan.model_dump()},
    )
    return xr.DataTree.from_dict(nodes), truth
