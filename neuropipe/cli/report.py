"""`report`: everything that a study has made, on one page."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuropipe import __version__
from neuropipe.cli import Output, Results, app
from neuropipe.cli.files import parse_json, read_json
from neuropipe.config import Run, Study, build

if TYPE_CHECKING:
    import pandas as pd

    from neuropipe.report import DataSource, RunReport, Skipped


@app.command()
def report(
    study: Annotated[str, typer.Option(help="JSON of the whole configuration.")],
    output: Output,
    results: Results = Path("results"),
) -> None:
    """Write the report of a study as one HTML page that needs nothing else."""
    import pandas as pd

    from neuropipe.report import StudyReport, render

    block = build(Study, parse_json(study, "--study"), "--study")
    skipped = [s for name in block.datasets for s in _skipped(name, block, results)]
    left_out = {s.name for s in skipped}
    runs = {n: r for n, r in block.runs.items() if r.dataset not in left_out}
    reports = [_run(name, run, results) for name, run in runs.items()]
    used = dict.fromkeys(run.dataset for run in runs.values())
    recordings = [_recordings(name, run, results) for name, run in runs.items()]
    libraries = ("torch", "xarray", "zarr", "pynwb", "scikit-learn", "snakemake")
    output.parent.mkdir(parents=True, exist_ok=True)
    render(
        StudyReport(
            title=block.title or block.study,
            runs=tuple(reports),
            recordings=pd.concat(recordings).drop_duplicates(["dataset", "session"])
            if recordings
            else pd.DataFrame(columns=["dataset", "session"]),
            datasets=tuple(_source(name, block) for name in used),
            skipped=tuple(skipped),
            provenance={
                "neuropipe": __version__,
                **{name: version(name) for name in libraries},
                "python": platform.python_version(),
                "platform": platform.platform(),
                "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            },
            command="snakemake --cores N pipelines",
        ),
        output,
    )


def _skipped(name: str, study: Study, results: Path) -> list[Skipped]:
    from neuropipe.report import Skipped

    notes = [read_json(p) for p in sorted((results / "fetch" / name).glob("*.json"))
             if not p.name.endswith(".truth.json")]  # fmt: skip
    lost = [n for n in notes if n.get("status") == "skipped"]
    return [Skipped(name, lost[0]["reason"])] if lost else []


def _source(name: str, study: Study) -> DataSource:
    from neuropipe.io.manifest import read_manifest
    from neuropipe.report import DataSource

    page = read_manifest(study.datasets[name].manifest)
    drawn = all(row.simulated for row in page.rows)
    return DataSource(name, page.title, page.doi, page.licence, page.reader, page.citation, drawn)


def _recordings(name: str, run: Run, results: Path) -> pd.DataFrame:
    """Return the run's table of recordings, with what the stores say of their source."""
    import pandas as pd

    from neuropipe.cli.gather import TEXT
    from neuropipe.io.store import open_recording

    table = pd.read_csv(results / "table" / name / "recordings.tsv", sep="\t", dtype=TEXT)
    table.insert(0, "dataset", run.dataset)
    for key in ("subject", "source", "sha256"):
        table[key] = [
            open_recording(results / "preprocess" / run.dataset / f"{s}.zarr").attrs.get(key, "")
            for s in table["session"]
        ]
    return table


def _run(name: str, run: Run, results: Path) -> RunReport:
    import pandas as pd

    from neuropipe import figures, tables
    from neuropipe.cli.gather import TEXT, gather
    from neuropipe.report import Figure, RunReport, Table

    found = gather(name, run, results)
    wanted_figures = list(figures.FIGURES) if run.figures == "all" else run.figures
    wanted_tables = list(tables.TABLES) if run.tables == "all" else run.tables

    def read(table: str) -> pd.DataFrame:
        return pd.read_csv(results / "table" / name / f"{table}.tsv", sep="\t", dtype=TEXT)

    converged: dict[str, list[bool]] = {}
    for (estimator, _), history in sorted(found.history.items()):
        converged.setdefault(estimator, []).append(bool(history.attrs.get("converged", 1)))
    return RunReport(
        run=name,
        model=run.model,
        dataset=run.dataset,
        seed=run.seed,
        settings=run.model_dump(),
        splits={**run.split.model_dump(), "folds": run.split.folds},
        converged={e: tuple(flags) for e, flags in converged.items()},
        scores=read("scores"),
        recordings=read("recordings"),
        figures=tuple(
            Figure(f, figures.caption(f), (results / "figure" / name / f"{f}.svg").read_text())
            for f in wanted_figures
        ),
        tables=tuple(Table(t, tables.caption(t), read(t)) for t in wanted_tables if t != "scores"),
    )
