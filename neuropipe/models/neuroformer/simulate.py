"""Spiking sessions with planted hubs, a drifting bar and running speed, and their truth.

Units fire as Bernoulli GLMs in narrow bins: a baseline, tuning to the phase of the bar, a gain by
speed, and directed couplings from a few hubs to targets of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.schema import SCHEMA_VERSION, Recording

MOST = 0.9  # largest chance of a spike in a bin
FRAME_BINS = 5  # bins that a frame, and a sample of speed, lasts


class Plan(BaseModel):
    """What to draw; the defaults are a session of 400 s with 30 units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_units: int = Field(30, ge=2)
    duration_s: float = Field(400.0, gt=0)
    bin_width_s: float = Field(0.01, gt=0)
    n_hubs: int = Field(3, ge=0)
    fan_out: int = Field(7, ge=0, description="Targets of each hub.")
    weight: float = Field(2.2, description="Coupling of a hub to its targets, log rate a spike.")
    base_hz: float = Field(3.0, gt=0, description="Median baseline rate.")
    coupling_decay_s: float = Field(0.02, gt=0)
    frame_height: int = Field(12, ge=1)
    frame_width: int = Field(20, ge=2)
    shared_input: float = Field(
        0.0, ge=0,
        description="Strength, in log rate, of a common input to two groups of units that nothing "
        "in the recording shows; the recipe has none.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        if self.n_hubs * (self.fan_out + 1) > self.n_units:
            raise ValueError(
                f"n_units: {self.n_units}, expected at least n_hubs * (fan_out + 1) = "
                f"{self.n_hubs * (self.fan_out + 1)}"
            )
        if self.n_bins < 4 * FRAME_BINS:
            raise ValueError(f"duration_s: {self.n_bins} bins, expected at least {4 * FRAME_BINS}")
        return self

    @property
    def n_bins(self) -> int:
        """Bins of the session."""
        return round(self.duration_s / self.bin_width_s)


class World(NamedTuple):
    """A drawn session.

    Attributes
    ----------
    weight : (unit, source_unit)
        Planted couplings.
    drive : (bin, unit)
        Log rate, Hz, without couplings.
    spikes : (bin, unit) int64
        0 or 1.
    history : (bin, unit)
        Filtered spikes before each bin.
    speed, phase : (frame,)
        Of unit variance; rad.
    frame : (frame, y, x) float32
    """

    weight: np.ndarray
    drive: np.ndarray
    spikes: np.ndarray
    history: np.ndarray
    speed: np.ndarray
    phase: np.ndarray
    frame: np.ndarray


def draw(plan: Plan, seed: int) -> World:
    """Draw the session.

    Notes
    -----
    The order of draws is that of the recipe which the acceptance levels were set with, so the
    same seed gives the same spikes.
    """
    rng = np.random.default_rng(seed)
    n, n_bins = plan.n_units, plan.n_bins
    weight = np.zeros((n, n))
    rest = rng.permutation(np.arange(plan.n_hubs, n))
    for hub in range(plan.n_hubs):
        weight[rest[hub * plan.fan_out : (hub + 1) * plan.fan_out], hub] = plan.weight
    base = np.log(plan.base_hz * np.exp(0.3 * rng.standard_normal(n)))
    preferred, tuning = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.3, 1.0, n)
    gain = np.where(rng.random(n) < 0.5, rng.choice([-0.7, 0.7], n), 0.0)
    n_frames = -(-n_bins // FRAME_BINS)
    keep = np.exp(-FRAME_BINS * plan.bin_width_s)  # of an Ornstein-Uhlenbeck process, 1 s
    speed = np.zeros(n_frames)
    for t in range(1, n_frames):
        speed[t] = keep * speed[t - 1] + np.sqrt(1 - keep**2) * rng.standard_normal()
    phase = np.cumsum(0.35 + 0.25 * rng.standard_normal(n_frames)) % (2 * np.pi)
    across = np.arange(plan.frame_width) / plan.frame_width * 2 * np.pi
    frame = np.exp(3 * (np.cos(across - phase[:, None]) - 1))[:, None].repeat(plan.frame_height, 1)
    drive = base + tuning * np.cos(phase[:, None] - preferred) + gain * speed[:, None]
    drive = drive.repeat(FRAME_BINS, 0)[:n_bins]
    uniform = rng.random((n_bins, n))
    if plan.shared_input:
        drive = drive + _unseen(plan, rng)
    spikes, history = run(plan, weight, drive, uniform[None])
    return World(
        weight, drive, spikes[0], history[0], speed, phase, frame.astype(np.float32)
    )  # fmt: skip


def _unseen(plan: Plan, rng: np.random.Generator) -> np.ndarray:
    """Draw the common input of two groups, the second of which follows the first, (bin, unit)."""
    n_bins, lag = plan.n_bins, max(round(plan.coupling_decay_s / plan.bin_width_s), 1)
    value = np.zeros(n_bins)
    keep = np.exp(-plan.bin_width_s / 0.03)
    fresh = np.sqrt(1 - keep**2) * rng.standard_normal(n_bins)
    for t in range(1, n_bins):
        value[t] = keep * value[t - 1] + fresh[t]
    order = rng.permutation(plan.n_units)
    third = plan.n_units // 3
    out = np.zeros((n_bins, plan.n_units))
    out[:, order[:third]] = plan.shared_input * value[:, None]
    out[lag:, order[third : 2 * third]] = plan.shared_input * value[:-lag, None]
    return out


def run(
    plan: Plan, weight: np.ndarray, drive: np.ndarray, uniform: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Let the units fire in several runs at once.

    Parameters
    ----------
    plan : Plan
    weight : (unit, source_unit)
    drive : (bin, unit)
    uniform : (run, bin, unit)
        Random numbers between 0 and 1.

    Returns
    -------
    spikes : (run, bin, unit) int64
    history : (run, bin, unit)
        ``history[:, t]``: spikes before bin t, decayed.
    """
    n_runs, n_bins, n = uniform.shape
    decay = np.exp(-plan.bin_width_s / plan.coupling_decay_s)
    spikes = np.zeros((n_runs, n_bins, n), dtype=np.int64)
    history = np.zeros((n_runs, n_bins, n))
    now = np.zeros((n_runs, n))
    for t in range(n_bins):
        history[:, t] = now
        spikes[:, t] = uniform[:, t] < chance(plan, weight, drive[t], now)
        now = now * decay + spikes[:, t]
    return spikes, history


def chance(plan: Plan, weight: np.ndarray, drive: np.ndarray, history: np.ndarray) -> np.ndarray:
    """Return the chance of a spike in a bin, min(1 - exp(-dt exp(drive + W h)), .9)."""
    rate = np.exp(drive + history @ weight.T)
    return np.minimum(1 - np.exp(-plan.bin_width_s * rate), MOST)


def simulate(plan: Plan, seed: int) -> tuple[Recording, xr.Dataset]:
    """Draw one session.

    Parameters
    ----------
    plan : Plan
        Sizes and strengths.
    seed : int
        Of all draws.

    Returns
    -------
    recording : DataTree
        Nodes `spikes`, `units`, ``behavior/speed``, and ``stimulus/bar``.
        Spikes lie in the middle of their bins, so that binning at `bin_width_s` from 0 gives the
        drawn ones back.
    truth : Dataset
        ``weight (unit, source_unit)``, and ``rate (time, unit)``: the intensity given all spikes
        before each bin, Hz.
    """
    world = draw(plan, seed)
    width = plan.bin_width_s
    unit, at = np.nonzero(world.spikes.T)
    frame_s = np.arange(len(world.speed)) * FRAME_BINS * width
    names = np.arange(plan.n_units)
    one, second = {"units": "1"}, {"units": "s"}
    nodes = {
        "/": xr.Dataset(
            attrs={
                "dataset": "planted_neuroformer",
                "subject": "planted",
                "session": f"planted-{seed}",
                "source": "simulated",
                "sha256": "",
                "history": "[]",
                "schema_version": SCHEMA_VERSION,
            }
        ),
        "/spikes": xr.Dataset(
            {
                "spike_time": ("spike", (at + 0.5) * width, second),
                "unit_index": ("spike", unit.astype(np.int32), one),
            }
        ),
        "/units": xr.Dataset(coords={"unit": ("unit", names, one)}),
        "/behavior/speed": xr.Dataset(
            # held while a frame is on, so that no step of preprocessing blends it with the next
            {"speed": ("time", world.speed.repeat(FRAME_BINS)[: plan.n_bins], one)},
            {"time": ("time", (np.arange(plan.n_bins) + 0.5) * width, second)},
        ),
        "/stimulus/bar": xr.Dataset(
            {
                "frame": (("frame", "y", "x"), world.frame, one),
                "frame_time": ("frame", frame_s, second),
            }
        ),
    }
    rate = np.exp(world.drive + world.history @ world.weight.T)
    truth = xr.Dataset(
        {
            "weight": (("unit", "source_unit"), world.weight, one),
            "rate": (("time", "unit"), rate.astype(np.float32), {"units": "Hz"}),
        },
        {
            "time": ("time", (np.arange(plan.n_bins) + 0.5) * width, second),
            "unit": ("unit", names, one),
            "source_unit": ("source_unit", names, one),
        },
        {"seed": seed, **plan.model_dump()},
    )
    return xr.DataTree.from_dict(nodes), truth
