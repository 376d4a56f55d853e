"""What the tables of a run say against it: chance, one loud unit, brief states."""

from __future__ import annotations

import pandas as pd

from neuropipe.report.nulls import largest_p
from neuropipe.report.study import RunReport
from neuropipe.report.words import number

LEVEL = 0.05  # of p, above which chance does as well
LOUD_SHARE, FEWEST_UNITS = 0.5, 4  # of all spikes; of fewer units one may well be half
BRIEF_STAY, SEEN = 0.5, 0.02  # a state is left after two bins; share of time of one that counts


def cautions(run: RunReport) -> list[str]:
    """Return what a reader must know before the numbers of a run are believed, a sentence each."""
    frames = {table.name: table.frame for table in run.tables}
    return [
        *_unexceptional(frames.get("null_test", pd.DataFrame())),
        *_loud_unit(run.recordings),
        *_brief_states(frames.get("states", pd.DataFrame())),
    ]


def _unexceptional(frame: pd.DataFrame) -> list[str]:
    """Return a warning where chance alone does as well in some fold; none where nobody asked."""
    if not len(frame):
        return []
    p_values = frame["p_value"].dropna()
    n = int((frame["traces"] != "recorded").groupby(frame["fold"]).sum().max())
    high = int((p_values > max(LEVEL, 1 / (n + 1))).sum())
    if not high:
        return []
    return [
        f"No more than chance: in {high} of {len(p_values)} folds traces that were shifted against "
        f"each other are explained as well ({largest_p(p_values)}): the components may be no more."
    ]


def _loud_unit(recordings: pd.DataFrame) -> list[str]:
    """Return a warning for each session whose spikes are mostly those of one unit."""
    if "busiest_share" not in recordings:
        return []
    rows = recordings[
        (recordings["busiest_share"] > LOUD_SHARE) & (recordings["units"] >= FEWEST_UNITS)
    ]
    return [
        f"One loud unit: {100 * row['busiest_share']:.0f}% of the spikes of session "
        f"{row['session']} are of unit {row['busiest_unit']}, so bits per spike and states are "
        "mostly about it; look at its quality, and keep the others by step select_units."
        for row in rows.to_dict("records")
    ]


def _brief_states(states: pd.DataFrame) -> list[str]:
    """Return a warning where states are left again within two bins."""
    if not {"stay_probability", "occupancy", "mean_dwell_s"} <= set(states.columns):
        return []
    brief = states[(states["stay_probability"] < BRIEF_STAY) & (states["occupancy"] > SEEN)]
    if not len(brief) or len(states) < 2:
        return []
    named = ", ".join(str(state) for state in brief["state"])
    return [
        f"Brief states: {named} of {len(states)} last {number(float(brief['mean_dwell_s'].max()))} "
        "s at most, less than two bins: they may be bursts of counts, and no states of the brain."
    ]
