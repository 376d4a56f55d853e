"""What a report is made from: plain records, everything already read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its name, its caption, the text of the SVG, and its place in the results.

    `notice` says why there was nothing to draw, empty for a figure that shows something.
    """

    name: str
    caption: str
    svg: str
    path: str = ""
    notice: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its name, its caption, and its rows."""

    name: str
    caption: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class DataSource:
    """A data set of the study, in the words of its manifest.

    Attributes
    ----------
    name, title : str
        Name in the configuration, and title.
    doi, licence : str
        Empty where there is none; the DOI without any address before it.
    reader : str
        Format that it was read from, such as ``nwb``.
    citation : str
        How the authors ask to be cited, as plain text.
    simulated : bool
        True where the sessions were drawn from a model.
    """

    name: str
    title: str
    doi: str = ""
    licence: str = ""
    reader: str = ""
    citation: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Job:
    """One job of the study: what became of it, and what it took.

    Attributes
    ----------
    rule, name : str
        Of the job, such as ``ingest`` and ``mouse/s1``.
    owner : str
        Recording (``data set/session``) or run that it belongs to.
    status : str
        ``done``, ``skipped``, ``failed`` or ``not begun``.
    seconds, memory_mb : float
        Measured, NaN where nobody did.
    note : str
        Why it was skipped, or the last words of the log of one that failed.
    """

    rule: str
    name: str
    owner: str
    status: str
    seconds: float = float("nan")
    memory_mb: float = float("nan")
    note: str = ""


@dataclass(frozen=True)
class Skipped:
    """A data set, session or run that the study left out, and why in one line."""

    name: str
    reason: str


@dataclass(frozen=True)
class RunReport:
    """One run: a model and its baselines on one data set.

    Attributes
    ----------
    run, model, dataset : str
        Names from the configuration.
    seed : int
        Of the run.
    settings : mapping
        The run's block of the configuration.
    splits : mapping
        How the folds were made: ``by``, ``folds``, ``buffer_s`` and the like.
    converged : mapping of estimator to one bool a fold
        Model and baselines.
    scores : DataFrame
        What the table ``scores`` returned.
    recordings : DataFrame
        What the table ``recordings`` returned.
    figures, tables : tuple
        In the order in which they are shown; the table ``scores`` is shown from `scores`.
    warnings : tuple of str
        What else a reader must know, a sentence each.
    sessions : DataFrame
        Columns session, subject, estimator, metric, value: means over folds.
    trust : Table, optional
        What the model recovers of planted truth at the size of these recordings.
    """

    run: str
    model: str
    dataset: str
    seed: int
    settings: Mapping[str, Any]
    splits: Mapping[str, Any]
    converged: Mapping[str, tuple[bool, ...]]
    scores: pd.DataFrame
    recordings: pd.DataFrame
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    warnings: tuple[str, ...] = ()
    sessions: pd.DataFrame = field(default_factory=pd.DataFrame)
    trust: Table | None = None


@dataclass(frozen=True)
class Quality:
    """Checks of one recording: a row each with `verdict` and `reason`, and their figure.

    `history` holds what was done to it, in order: name, parameters and version of each step.
    """

    dataset: str
    session: str
    checks: pd.DataFrame
    svg: str
    history: tuple[Mapping[str, Any], ...] = ()

    @property
    def verdict(self) -> str:
        """Return the worst verdict of all checks."""
        found = set(self.checks["verdict"])
        return next((v for v in ("FAIL", "WARN") if v in found), "PASS")


@dataclass(frozen=True)
class StudyReport:
    """A whole study.

    Attributes
    ----------
    title : str
        Heading of the page.
    runs : tuple of RunReport
        In the order of the configuration.
    recordings : DataFrame
        A row a session; of its columns only those in `RECORDING_COLUMNS` are shown, so that no
        name or birth date of a subject can reach the page.
    datasets : tuple of DataSource
        Those that were analysed.
    skipped : tuple of Skipped
        What was left out.
    quality : tuple of Quality
        Checks of each recording.
    provenance : mapping of str to str
        Versions of the code and its libraries, platform, date: whatever there is to say.
    command : str
        The command that made the study.
    bibtex : tuple of str
        Further entries for the references.
    fits : DataFrame
        A row a fit: what went in, what it took, its scores; empty where nobody counted.
    jobs : tuple of Job
        What became of each job.
    config : str
        The whole configuration as YAML, defaults included.
    """

    title: str
    runs: tuple[RunReport, ...]
    recordings: pd.DataFrame
    datasets: tuple[DataSource, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    quality: tuple[Quality, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    bibtex: tuple[str, ...] = ()
    fits: pd.DataFrame = field(default_factory=pd.DataFrame)
    jobs: tuple[Job, ...] = ()
    config: str = ""


RECORDING_COLUMNS = (
    "dataset",
    "session",
    "subject",
    "quality",
    "source",
    "sha256",
    "nodes",
    "units",
    "spikes",
    "duration_s",
    "trials",
    "in_trials_s",
    "missing_share",
)
