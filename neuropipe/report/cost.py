"""What a study's results cost: the table of all fits, summed for each estimator of a run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.report.words import PREFERRED_METRICS, spoken


def cost_tables(fits: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return, for each run, a row an estimator: its main score, and what all its fits took.

    Parameters
    ----------
    fits : DataFrame
        A row a fit, as the command `cost` writes them.
    """
    return [(str(run), _table(group)) for run, group in fits.groupby("run", sort=False)]


def _table(fits: pd.DataFrame) -> pd.DataFrame:
    metric = next((m for m in PREFERRED_METRICS if m in fits and fits[m].notna().any()), None)
    rows = []
    for estimator, group in fits.groupby("estimator", sort=False):
        cards = group["gpu"].dropna().unique()
        row = {
            "estimator": spoken(str(estimator)),
            "fits": len(group),
            "all fits_s": float(group["seconds"].sum()),
            "one fit_s": float(group["seconds"].mean()),
            "processor time_s": float(group["cpu_seconds"].sum(min_count=1)),
            "peak memory (MB)": float(np.ceil(group["peak_memory_mb"].max())),
            "processes": int(group["processes"].fillna(1).max()),
            "card": ", ".join(cards) if len(cards) else "none",
            "energy of the card (kJ)": float(group["gpu_energy_j"].sum(min_count=1) / 1000),
            "resumed": int((group["resumed"].astype(str) == "True").sum()),
        }
        if metric is not None:
            row[f"score: {spoken(metric)}"] = float(group[metric].mean())
        rows.append(row)
    return pd.DataFrame(rows)
