"""Every contact, and what the classes owe to it."""

from __future__ import annotations

import pandas as pd

from neuropipe.decoded import contact_table
from neuropipe.results import RunResults

COLUMNS = (
    "subject",
    "channel",
    "shaft",
    "region",
    "x_mm",
    "y_mm",
    "z_mm",
    "folds",
    "contact_contribution",
    "z_score",
    "p_value",
    "q_value",
    "contact_weight",
)


def table(results: RunResults) -> pd.DataFrame:
    """Contacts that any fold kept, the strongest first. Contribution is by how much, in nats, the
    contact's signal raises the log chance of its trial's class when another trial is given it,
    among trials that were not fitted, mean over folds; the score is it over its spread under
    shuffled classes, mean over folds, since folds share training data. p is one-sided and normal, q
    controls the false discovery rate over this table (Benjamini and Hochberg 1995). The weight is
    the published score: mean size of the contact's weights, over the largest one of its subject;
    it has no null.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``contact_weight (channel)``.
    """
    rows = contact_table(results)
    if not len(rows):
        return pd.DataFrame(columns=list(COLUMNS))
    rows = rows.rename(columns={axis: f"{axis}_mm" for axis in "xyz"})
    rows = rows.reindex(columns=[c for c in COLUMNS if c in rows])
    by = ["contact_contribution", "contact_weight"]
    return rows.sort_values(by, ascending=False, kind="stable").reset_index(drop=True)
