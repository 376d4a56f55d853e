"""The report of a study: one HTML page that needs nothing outside itself."""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined

from neuropipe.report import group, methods, progress, words
from neuropipe.report.cautions import cautions
from neuropipe.report.cost import cost_tables
from neuropipe.report.nulls import nulls
from neuropipe.report.study import (
    RECORDING_COLUMNS,
    DataSource,
    Figure,
    Job,
    Quality,
    RunReport,
    Skipped,
    StudyReport,
    Table,
)

__all__ = [
    "DataSource",
    "Figure",
    "Job",
    "Quality",
    "RunReport",
    "Skipped",
    "StudyReport",
    "Table",
    "render",
]

SHOWN_ROWS = 15
CARRIED_ROWS = 20_000  # a longer table stays in its file: the page must stay light


def render(study: StudyReport, path: Path | str) -> None:
    """Write the report of a study as one HTML file.

    Parameters
    ----------
    study : StudyReport
        Everything that the page shows; texts are escaped, figures become images, which cannot
        run code or load anything.
    path : path
        Target, whose folder exists; replaced at once, so that it is never half a page.
    """
    page = (
        _environment()
        .get_template("page.html")
        .render(
            study=study,
            summary=words.summary(study),
            methods=methods.methods(study),
            references=methods.references(study),
            recordings=_public(study.recordings),
        )
    )
    path = Path(path)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def _environment() -> Environment:
    folder = files(__name__)
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "spoken": words.spoken,
        "heading": words.heading,
        "number": words.number,
        "cells": _cells,
        "settings": _settings,
        "svg_width": _svg_width_px,
        "svg_uri": lambda svg: _data_uri("image/svg+xml", svg),
        "tsv_uri": _tsv_uri,
        "text_uri": lambda text: _data_uri("text/plain;charset=utf-8", text),
    }
    environment.globals |= {
        "SHOWN_ROWS": SHOWN_ROWS,
        "cost_tables": cost_tables,
        "overview": group.overview,
        "by_subject": group.by_subject,
        "nulls": nulls,
        "jobs_table": progress.jobs_table,
        "jobs_sentence": progress.jobs_sentence,
        "history_table": progress.history_table,
        "facts": progress.facts,
        "score_tables": words.score_tables,
        "verdict": words.verdict,
        "convergence": words.convergence,
        "remarks": words.remarks,
        "warnings_of": words.warnings,
        "cautions": cautions,
        "not_shown": words.not_shown,
        "FEW_SCORES": words.FEW_SCORES,
    }
    return environment


def _public(recordings: pd.DataFrame) -> pd.DataFrame:
    return recordings[[c for c in RECORDING_COLUMNS if c in recordings.columns]]


def _cells(frame: pd.DataFrame) -> list[list[str]]:
    """Return the first rows of a table as text."""
    shown = frame.head(SHOWN_ROWS).astype(object)
    return [[words.number(value) for value in row] for row in shown.itertuples(index=False)]


def _settings(settings: Any) -> str:
    return json.dumps(settings, indent=2, default=str, ensure_ascii=False)


def _svg_width_px(svg: str) -> float:
    """Return how wide to show a figure: half as large again as in print, for reading on screens."""
    found = re.search(r'<svg\b[^>]*?\bwidth="([\d.]+)pt"', svg)
    return 1.5 * float(found[1]) * 4 / 3 if found else 900.0


def _data_uri(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _tsv_uri(frame: pd.DataFrame) -> str | None:
    """Return the whole table as a link that downloads it, or None where it is too long."""
    if len(frame) > CARRIED_ROWS:
        return None
    text = frame.to_csv(sep="\t", index=False, float_format="%.6g")
    return _data_uri("text/tab-separated-values;charset=utf-8", text)
