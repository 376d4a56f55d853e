"""What a study will need before it starts: memory and time of each job, from its manifests."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuropipe.config import Study
from neuropipe.io.manifest import Row, read_manifest

# Peak memory of a job that holds nothing of the recording's length, MB; measured, rounded up.
BASE_MB = {
    "fetch": 700,
    "ingest": 1500,
    "quality": 1500,
    "preprocess": 1800,
    "split": 700,
    "fit": 1000,
    "transform": 1000,
    "score": 1000,
    "figure": 900,
    "table": 900,
    "cost": 700,
    "report": 1200,
}
# What these hold of the prepared sessions of a run, bytes of memory for a byte of their arrays.
HELD = {"fit": 6.0, "transform": 4.0, "score": 4.0}
# Seconds before anything is read, and for a gigabyte of the recording, one core.
START_S = 8.0
SECONDS_PER_GB = {"fetch": 20.0, "ingest": 40.0, "quality": 40.0, "preprocess": 120.0}
UNKNOWN_GB = 1.0  # of a session that is drawn, or whose size nobody says


@dataclass(frozen=True)
class Job:
    """One job of the plan. `basis` says whether its numbers were measured or are estimates."""

    rule: str
    name: str
    memory_mb: int
    seconds: float
    basis: str


def session_bytes(rows: Sequence[Row]) -> int:
    """Return the bytes of a session's files; `UNKNOWN_GB` where they are not made yet."""
    return sum(row.bytes or 0 for row in rows) or int(UNKNOWN_GB * 1e9)


def stored_bytes(note: Path) -> int | None:
    """Return the uncompressed bytes of a store, from the note beside it, or None without one."""
    if not note.is_file():
        return None
    nodes = json.loads(note.read_text(encoding="utf-8")).get("nodes", {})
    return sum(
        math.prod(variable["shape"]) * (np.dtype(variable["dtype"]).itemsize if _plain(variable)
                                        else 64)
        for variables in nodes.values()
        for variable in variables.values()
    )  # fmt: skip


def memory_mb(rule: str, notes: list[Path] | None = None) -> int:
    """Return the memory that a job is given, MB.

    Parameters
    ----------
    rule : name of the rule
    notes : of the prepared stores that the job holds, where it holds any; one that is not written
        yet counts nothing, so the number is a floor until then
    """
    held = sum(stored_bytes(note) or 0 for note in notes or [])
    return int(BASE_MB[rule] + HELD.get(rule, 0.0) * held / 1e6)


def plan(study: Study, results: Path, folder: Path = Path()) -> Iterator[Job]:
    """Yield the jobs of a study with what each needs.

    Parameters
    ----------
    study : the checked configuration
    results : its folder of results; a job that ran there before is told by its benchmark
    folder : that paths of the configuration are relative to

    Notes
    -----
    Memory of ingest, quality and preprocess does not grow with the recording; that of fit,
    transform and score grows with the prepared arrays, whose size is known once they are written.
    """
    for name, dataset in study.datasets.items():
        files = read_manifest(folder / dataset.manifest).sessions()
        for session in files if dataset.sessions == "all" else dataset.sessions:
            size_gb = session_bytes(files[session]) / 1e9
            for rule in ("fetch", "ingest", "quality", "preprocess"):
                yield _job(rule, f"{name}/{session}", results, size_gb)
    for name, run in study.runs.items():
        notes = sorted((results / "preprocess" / run.dataset).glob("*.json"))
        for fold in range(run.split.folds):
            for estimator in run.estimators():
                for rule in ("fit", "score"):
                    yield _job(rule, f"{name}/{estimator}/fold-{fold}", results, 0.0, notes)
            yield _job("transform", f"{name}/fold-{fold}", results, 0.0, notes)


def _job(
    rule: str, name: str, results: Path, size_gb: float, notes: list[Path] | None = None
) -> Job:
    before = results / "benchmarks" / rule / f"{name}.tsv"
    if before.is_file():
        header, *_, last = before.read_text(encoding="utf-8").splitlines()
        told = dict(zip(header.split("\t"), last.split("\t"), strict=True))
        if told["max_rss"] not in ("-", "NA"):
            memory = math.ceil(1.3 * float(told["max_rss"]))
            return Job(rule, name, memory, float(told["s"]), "measured before")
    seconds = START_S + SECONDS_PER_GB.get(rule, 0.0) * size_gb
    return Job(rule, name, memory_mb(rule, notes), seconds, "estimated")


def _plain(variable: dict) -> bool:
    return not variable["dtype"].startswith(("StringDType", "object", "str"))
