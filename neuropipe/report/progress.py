"""What was done: the jobs of a recording or run, and the steps that a recording went through."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from neuropipe.report.study import RECORDING_COLUMNS, Job, Quality, StudyReport
from neuropipe.report.words import heading, number

STATES = ("done", "skipped", "failed", "not begun")


def jobs_sentence(jobs: Sequence[Job]) -> str:
    """Return how many jobs were done, skipped, failed or never begun, and what they took."""
    if not jobs:
        return ""
    counted = [(sum(job.status == state for job in jobs), state) for state in STATES]
    told = ", ".join(f"{n} {state}" for n, state in counted if n)
    seconds = float(np.nansum([job.seconds for job in jobs]))
    took = f"; together they computed for {_span(seconds)}" if seconds else ""
    return f"Of {len(jobs)} jobs {told}{took}."


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def jobs_table(study: StudyReport, owner: str) -> pd.DataFrame:
    """Return a row a rule of what one recording or run asked for; empty where nobody counted."""
    own = [job for job in study.jobs if job.owner == owner]
    rows = []
    for rule in dict.fromkeys(job.rule for job in own):
        jobs = [job for job in own if job.rule == rule]
        notes = [job.note for job in jobs if job.note]
        rows.append(
            {
                "job": rule,
                **{state: sum(job.status == state for job in jobs) for state in STATES},
                "time_s": float(np.nansum([job.seconds for job in jobs])),
                "peak memory (MB)": _largest([job.memory_mb for job in jobs]),
                "why": notes[0] if notes else "",
            }
        )
    table = pd.DataFrame(rows)
    empty = [c for c in ("skipped", "failed", "not begun") if rows and not table[c].any()]
    if rows and not table["why"].any():
        empty.append("why")
    return table.drop(columns=empty)


def _largest(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(round(max(known))) if known else float("nan")


def history_table(item: Quality) -> pd.DataFrame:
    """Return what was done to a recording, a row a step in order."""
    return pd.DataFrame(
        [
            {
                "step": str(step.get("name", "")),
                "parameters": json.dumps(step.get("parameters", {}), ensure_ascii=False),
                "version": str(step.get("version", "")),
            }
            for step in item.history
        ]
    )


def facts(study: StudyReport, item: Quality) -> list[tuple[str, str]]:
    """Return what is known of a recording, of the columns that may be shown."""
    table = study.recordings
    if not {"dataset", "session"} <= set(table.columns):
        return []
    rows = table[(table["dataset"] == item.dataset) & (table["session"] == item.session)]
    if not len(rows):
        return []
    shown = [c for c in RECORDING_COLUMNS if c in rows.columns and c not in ("dataset", "session")]
    told = [(heading(column), number(rows.iloc[0][column])) for column in shown]
    return [(name, value) for name, value in told if value not in ("–", "nan", "")]
