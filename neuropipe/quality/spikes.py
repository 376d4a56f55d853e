"""Units: rate, refractory violations, drift of the rate, and presence over the session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuropipe.quality.rows import Row, rows_of
from neuropipe.quality.stream import extent_s, names_of
from neuropipe.quality.thresholds import Thresholds
from neuropipe.schema import Recording

BLOCK = 1 << 20
STRETCHES, SHORTEST_S = 100, 10.0  # to tell presence; a shorter stretch is empty by chance
FEWEST = 20  # spikes in the outer thirds, to tell a drift from chance


@dataclass(frozen=True)
class Trains:
    """What one reading of all spikes gives, (unit,) each, `stretch` (unit, stretch) counts."""

    count: np.ndarray
    short: np.ndarray
    stretch: np.ndarray
    duration_s: float


def check(recording: Recording, thresholds: Thresholds) -> list[Row]:
    """Return the rows of node `spikes`, a unit each."""
    if "spikes" not in recording.children:
        return []
    trains = read_trains(recording, thresholds.refractory_s)
    if not len(trains.count):
        return []
    names = [str(i) for i in range(len(trains.count))]
    if "units" in recording.children:
        units = recording["units"].to_dataset()
        named = units["unit_name"].values if "unit_name" in units else names_of(units, "unit")
        names = [str(name) for name in named]
    n_stretches = trains.stretch.shape[1]
    third = n_stretches // 3
    first, last = trains.stretch[:, :third].sum(1), trains.stretch[:, -third:].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = trains.count / trains.duration_s
        values = {
            "unit_rate_hz": (rate, "a unit this quiet tells little; leave it out of a fit"),
            "unit_rate_high_hz": (rate, "several cells, or noise, in one cluster"),
            "isi_violations": (
                np.where(trains.count > 1, trains.short / (trains.count - 1), np.nan),
                "spikes of other cells are mixed in; sort again or leave it out",
            ),
            "rate_drift": (
                np.where(first + last >= FEWEST, np.abs(last - first) / (first + last), np.nan),
                "the unit was lost, found or drifted; look at its rate over the session",
            ),
            "presence": (
                (trains.stretch > 0).mean(1) if n_stretches > 3 else np.full(len(rate), np.nan),
                "the unit fires in a part of the session only: lost, or selective",
            ),
        }
    return [
        one
        for name, (value, meaning) in values.items()
        for one in rows_of("spikes", names, name, value, thresholds, meaning, "unit")
    ]


def read_trains(recording: Recording, refractory_s: float) -> Trains:
    """Read all spikes once, block by block."""
    spikes = recording["spikes"].to_dataset()
    n_units = recording["units"].sizes["unit"] if "units" in recording.children else 0
    n_spikes = spikes.sizes["spike"]
    if n_spikes:
        n_units = max(n_units, int(spikes["unit_index"].max()) + 1)
    count, short = np.zeros(n_units), np.zeros(n_units)
    start_s, stop_s = extent_s(recording) or (0.0, 0.0)
    n_stretches = int(np.clip((stop_s - start_s) // SHORTEST_S, 3, STRETCHES))
    stretch = np.zeros((n_units, n_stretches))
    width_s = max(stop_s - start_s, np.finfo(float).tiny) / n_stretches
    for start in range(0, n_spikes, BLOCK):
        part = slice(max(start - 1, 0), start + BLOCK)  # one spike of overlap
        time = spikes["spike_time"].isel(spike=part).values
        unit = spikes["unit_index"].isel(spike=part).values.astype(int)
        fast = (np.diff(unit) == 0) & (np.diff(time) < refractory_s)
        short += np.bincount(unit[1:][fast], minlength=n_units)
        new = slice(int(start > 0), None)
        at = np.clip(((time[new] - start_s) / width_s).astype(int), 0, n_stretches - 1)
        count += np.bincount(unit[new], minlength=n_units)
        flat = np.bincount(unit[new] * n_stretches + at, minlength=n_units * n_stretches)
        stretch += flat.reshape(n_units, n_stretches)
    return Trains(count, short, stretch, stop_s - start_s)
