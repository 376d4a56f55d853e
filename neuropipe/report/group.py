"""All runs and all subjects beside each other; a subject counts once, however many sessions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.metrics import bootstrap_interval
from neuropipe.report.study import RunReport, StudyReport
from neuropipe.report.words import amount, main_scores, number, outcome, spoken, warnings

FEWEST_SUBJECTS = 3  # for an interval over subjects
SEED = 0  # of the bootstrap: the same study gives the same page


def overview(study: StudyReport) -> pd.DataFrame:
    """Return a row a run: its main score, that of the best baseline, and who won."""
    return pd.DataFrame([_overview(run) for run in study.runs])


def _overview(run: RunReport) -> dict[str, str]:
    scores = main_scores(run)
    own = scores.loc["model"] if "model" in scores.index else None
    best = scores.loc["best baseline"] if "best baseline" in scores.index else None
    flags = run.converged.get(run.model, ())
    return {
        "run": run.run,
        "model": spoken(run.model),
        "outcome": outcome(run),
        "held-out score": "–" if own is None else amount(float(own["mean"]), own),
        "best baseline": "–" if best is None else spoken(str(best["estimator"])),
        "its score": "–" if best is None else number(float(best["mean"])),
        "difference (95% interval)": "–" if best is None else _difference(best),
        "fits converged": f"{sum(flags)} of {len(flags)}",
        "warnings": str(len(warnings(run))),
    }


def _difference(best: pd.Series) -> str:
    gain, low, high = (
        float(best[c]) for c in ("model_minus_estimator", "difference_ci_low", "difference_ci_high")
    )
    return number(gain) + (f" ({number(low)} to {number(high)})" if np.isfinite(low) else "")


def by_subject(run: RunReport) -> tuple[pd.DataFrame, str] | None:
    """Return a row a subject, model beside the best baseline, and what follows; None for one.

    Parameters
    ----------
    run : RunReport
        Its `sessions` are averaged over sessions of a subject first: the subject is the unit.
    """
    scores = main_scores(run)
    if not len(run.sessions) or not {"model", "best baseline"} <= set(scores.index):
        return None
    metric = str(scores.loc["model"]["metric"])
    baseline = str(scores.loc["best baseline"]["estimator"])
    rows = run.sessions[run.sessions["metric"] == metric]
    wide = rows.pivot_table(index="subject", columns="estimator", values="value", aggfunc="mean")
    if not {run.model, baseline} <= set(wide.columns) or len(wide) < 2:
        return None
    wide = wide[[run.model, baseline]].dropna()
    gain = wide[run.model] - wide[baseline]
    table = pd.DataFrame(
        {
            "subject": wide.index.astype(str),
            spoken(run.model): wide[run.model].to_numpy(),
            spoken(baseline): wide[baseline].to_numpy(),
            "model minus baseline": gain.to_numpy(),
        }
    )
    return table, _sentence(gain.to_numpy(), spoken(baseline))


def _sentence(gain: np.ndarray, baseline: str) -> str:
    ahead = int((gain > 0).sum())
    said = (
        f"Ahead of {baseline} in {ahead} of {len(gain)} subjects, by {number(gain.mean())} in mean"
    )
    if len(gain) < FEWEST_SUBJECTS:
        return f"{said}; too few subjects for an interval."
    low, high = bootstrap_interval(gain, seed=SEED)
    return f"{said} (95% bootstrap interval over subjects {number(low)} to {number(high)})."
