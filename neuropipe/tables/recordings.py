"""What was recorded."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from neuropipe.results import RunResults

COLUMNS = ("session", "units", "spikes", "duration_s", "trials", "missing_share")


def table(results: RunResults) -> pd.DataFrame:
    """Recordings of the run as the models saw them: units and spikes in the binned counts,
    duration from the first bin to the last, trials, and the share of that duration in which
    nothing was recorded.

    Parameters
    ----------
    results : RunResults
        `recordings` with a node ``counts``, summed lazily.
    """
    rows = [_row(session, recording) for session, recording in results.recordings.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(session: str, recording: xr.DataTree) -> dict[str, object]:
    n_trials = recording["trials"].sizes.get("trial", 0) if "trials" in recording.children else 0
    row: dict[str, object] = {"session": session, "trials": n_trials}
    if "counts" not in recording.children:
        return row
    counts = recording["counts"].to_dataset()
    spike_count, time = counts["spike_count"], counts["time"].values
    bin_s = float(spike_count.attrs["bin_width_s"])
    duration_s = float(time[-1] - time[0]) + bin_s if len(time) else 0.0
    observed = int(counts["observed"].sum()) if "observed" in counts else len(time)
    missing = max(1 - observed * bin_s / duration_s, 0.0) if duration_s else float("nan")
    return row | {
        "units": spike_count.sizes["unit"],
        "spikes": int(spike_count.sum()),
        "duration_s": duration_s,
        "missing_share": missing if missing > 1e-9 else 0.0,
    }
