"""What became of each job of a study: done, skipped, failed or never begun."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe import figures, tables
from neuropipe.checks import sessions_of
from neuropipe.cli.files import read_json
from neuropipe.config import Study
from neuropipe.io.manifest import read_manifest

if TYPE_CHECKING:
    from neuropipe.report import Job

SUFFIX = {"quality": ".tsv", "score": ".tsv", "table": ".tsv", "figure": ".svg"}
LAST_WORDS = 300  # characters of a log


def jobs_of(study: Study, results: Path, folder: Path = Path()) -> Iterator[Job]:
    """Yield the jobs of a study, recordings first, with what became of each.

    Parameters
    ----------
    study : the checked configuration
    results : its folder of results
    folder : that paths of manifests are relative to
    """
    used = {run.dataset for run in study.runs.values()}
    for name, data in study.datasets.items():
        for session in sessions_of(name, study, read_manifest(folder / data.manifest)):
            rules = ["fetch", "ingest", "quality"]
            if name in used or data.preprocess:
                rules.append("preprocess")
            for rule in rules:
                yield _job(rule, f"{name}/{session}", f"{name}/{session}", results)
    for name, run in study.runs.items():
        yield _job("preprocess", f"splits/{name}", name, results)
        folds = range(run.split.folds)
        for estimator in run.estimators():
            for fold in folds:
                yield _job("fit", f"{name}/{estimator}/fold-{fold}", name, results)
                yield _job("score", f"{name}/{estimator}/fold-{fold}", name, results)
        for fold in folds:
            yield _job("transform", f"{name}/fold-{fold}", name, results)
        for figure in figures.suiting(run.model, run.figures):
            yield _job("figure", f"{name}/{figure}", name, results)
        for table in tables.suiting(run.model, run.tables):
            yield _job("table", f"{name}/{table}", name, results)


def _job(rule: str, name: str, owner: str, results: Path) -> Job:
    from neuropipe.report import Job

    made = (
        results / rule / (f"{name}/fit.json" if rule == "fit" else name + SUFFIX.get(rule, ".json"))
    )
    log = results / "logs" / rule / f"{name}.log"
    seconds, memory_mb = _benchmark(results / "benchmarks" / rule / f"{name}.tsv")
    status, note = "not begun", ""
    if made.is_file():
        status = "done"
        if rule == "fetch" and read_json(made).get("status") == "skipped":
            status, note = "skipped", str(read_json(made).get("reason", ""))
    elif log.is_file():
        status, note = "failed", _last_words(log)
    return Job(rule, name, owner, status, seconds, memory_mb, note)


def _benchmark(path: Path) -> tuple[float, float]:
    """Return what Snakemake measured of a job: seconds, and its peak memory, MB."""
    if not path.is_file():
        return math.nan, math.nan
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    if not rows:
        return math.nan, math.nan
    told = rows[-1].get("max_rss", "-")
    return float(rows[-1]["s"]), float(told) if told not in ("-", "NA", None) else math.nan


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:LAST_WORDS] if lines else "its log is empty"
