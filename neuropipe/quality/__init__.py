"""What is wrong with a recording, at a glance: numbers, verdicts and their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.registry import resolve

if TYPE_CHECKING:  # the thresholds are read while the job graph is built: nothing slow here
    import pandas as pd

    from neuropipe.quality.thresholds import Thresholds
    from neuropipe.schema import Recording

COLUMNS = ("node", "item", "check", "value", "units", "verdict", "reason")

# Each a function (recording, thresholds) -> list of rows; a recording without such nodes has none.
CHECKS = {
    "clocks": "neuropipe.quality.clocks:check",
    "spikes": "neuropipe.quality.spikes:check",
    "voltages": "neuropipe.quality.voltages:check",
    "bold": "neuropipe.quality.bold:check",
    "calcium": "neuropipe.quality.calcium:check",
    "behavior": "neuropipe.quality.behavior:check",
    "events": "neuropipe.quality.events:check",
}


def measure(recording: Recording, thresholds: Thresholds) -> pd.DataFrame:
    """Check a recording, whichever nodes it has, reading it once a kind, block by block.

    Parameters
    ----------
    recording : DataTree
        As ingested; memory does not grow with its length.
    thresholds : Thresholds
        Levels at which a check warns and fails.

    Returns
    -------
    DataFrame
        One row a check: `node`; `item`, the unit, channel, roi, signal or run, or ``all``;
        `check`; `value` with `units`; `verdict`, PASS, WARN or FAIL; `reason`, a sentence: what
        was found, the level, and what it may mean.

    Notes
    -----
    One unit, channel or roi beyond its fail level is a WARN: it can be left out. The recording
    FAILs when more than `failing_share` of them are, in the row of item ``all``.
    """
    import pandas as pd

    rows = [
        row
        for name in CHECKS
        for row in resolve(name, CHECKS, "quality: check")(recording, thresholds)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
