"""What was recorded."""

from __future__ import annotations

import pandas as pd

from neuropipe.results import RunResults

COLUMNS = ("session", "node", "units", "spikes", "duration_s", "trials", "in_trials_s",
           "missing_share", "busiest_unit", "busiest_share")  # fmt: skip


def table(results: RunResults) -> pd.DataFrame:
    """Recordings of the run as the models saw them: the node that was looked at, its units
    (neurons, regions, voxels or channels), spikes where it holds binned counts, duration from
    the first sample to the last, trials, the time inside them, which is all that folds by trial
    look at, the share of the duration in which nothing was recorded, and of counts the busiest
    unit with its share of all spikes.

    Parameters
    ----------
    results : RunResults
        `recordings`; counts are summed lazily, traces are not read.
    """
    rows = [_row(results, session) for session in results.recordings]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(results: RunResults, session: str) -> dict[str, object]:
    recording = results.recordings[session]
    row: dict[str, object] = {"session": session, "trials": 0}
    if "trials" in recording.children:
        trials = recording["trials"]
        row["trials"] = trials.sizes.get("trial", 0)
        row["in_trials_s"] = float((trials["stop_time"] - trials["start_time"]).sum())
    elif "betas" in recording.children:  # an amplitude a trial
        row["trials"] = recording["betas"].sizes.get("trial", 0)
    series = results.series(session)
    if series is None:
        return row
    duration_s, missing_s = results.extent_s(session)
    missing = missing_s / duration_s if duration_s else float("nan")
    if series.name == "spike_count":
        spikes = series.sum("time").values
        total = int(spikes.sum())
        row["spikes"] = total
        if total:
            row["busiest_unit"] = str(series["unit"].values[spikes.argmax()])
            row["busiest_share"] = float(spikes.max()) / total
    return row | {
        "node": series.attrs["node"],
        "units": series.shape[1],
        "duration_s": duration_s,
        "missing_share": missing if missing > 1e-9 else 0.0,
    }
