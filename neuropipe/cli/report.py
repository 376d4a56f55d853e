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

    from neuropipe.report import DataSource, Quality, RunReport, Skipped


@app.command()
def report(
    study: Annotated[str, typer.Option(help="JSON of the whole configuration.")],
    output: Output,
    results: Results = Path("results"),
) -> None:
    """Write the report of a study as one HTML page that needs nothing else."""
    from neuropipe.report import StudyReport, render

    block = build(Study, parse_json(study, "--study"), "--study")
    skipped = [s for name in block.datasets for s in _skipped(name, block, results)]
    left_out = {s.name for s in skipped}
    runs = {n: r for n, r in block.runs.items() if r.dataset not in left_out}
    reports = [_run(name, run, results) for name, run in runs.items()]
    kept = [name for name in block.datasets if name not in left_out]
    quality = [q for name in kept for q in _quality(name, block, results)]
    libraries = ("torch", "xarray", "zarr", "pynwb", "nibabel", "nilearn", "mne", "scikit-learn",
                 "snakemake")  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    render(
        StudyReport(
            title=block.title or block.study,
            runs=tuple(reports),
            recordings=_recordings(quality, runs, results),
            datasets=tuple(_source(name, block) for name in kept),
            quality=tuple(quality),
            skipped=tuple(skipped),
            provenance={
                "neuropipe": __version__,
                **{name: version(name) for name in libraries},
                "python": platform.python_version(),
                "platform": platform.platform(),
                "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            },
            command="snakemake --cores N pipelines",
            fits=_fits(results / "cost.tsv"),
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


def _quality(name: str, study: Study, results: Path) -> list[Quality]:
    """Return the checks of a data set's recordings."""
    import pandas as pd

    from neuropipe.io.manifest import read_manifest
    from neuropipe.report import Quality

    wanted = study.datasets[name].sessions
    known = read_manifest(study.datasets[name].manifest).sessions()
    found = []
    for session in known if wanted == "all" else wanted:
        table = results / "quality" / name / f"{session}.tsv"
        checks = pd.read_csv(table, sep="\t", na_values=["n/a"], keep_default_na=False)
        found.append(Quality(name, session, checks, table.with_suffix(".svg").read_text()))
    return found


def _recordings(quality: list[Quality], runs: dict[str, Run], results: Path) -> pd.DataFrame:
    """Return a row a recording: where it comes from, what it holds, and what the models saw."""
    import pandas as pd

    from neuropipe.cli.gather import TEXT
    from neuropipe.io.store import open_recording

    rows = []
    for item in quality:
        recording = open_recording(results / "ingest" / item.dataset / f"{item.session}.zarr")
        nodes = dict.fromkeys(g.split("/")[1] for g in recording.groups if g != "/")
        origin = {key: recording.attrs.get(key, "") for key in ("subject", "source", "sha256")}
        rows.append({
            "dataset": item.dataset, "session": item.session, **origin,
            "quality": item.verdict, "nodes": ", ".join(nodes),
        })  # fmt: skip
    table = pd.DataFrame(rows, columns=None if rows else ["dataset", "session"])
    seen = [
        pd.read_csv(results / "table" / name / "recordings.tsv", sep="\t", dtype=TEXT).assign(
            dataset=run.dataset
        )
        for name, run in runs.items()
    ]
    if not seen:
        return table
    used = pd.concat(seen).drop_duplicates(["dataset", "session"])
    return table.merge(used, on=["dataset", "session"], how="left")


def _fits(path: Path) -> pd.DataFrame:
    """Return the table of all fits, where the command `cost` has written it."""
    import pandas as pd

    if not path.is_file():
        return pd.DataFrame()
    text = dict.fromkeys(("run", "dataset", "estimator", "parameters", "commit", "gpu"), "string")
    return pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False, dtype=text)


def _run(name: str, run: Run, results: Path) -> RunReport:
    import pandas as pd

    from neuropipe import figures, tables
    from neuropipe.cli.gather import TEXT, gather
    from neuropipe.report import Figure, RunReport, Table

    found = gather(name, run, results)

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
            for f in figures.suiting(run.model, run.figures)
        ),
        tables=tuple(
            Table(t, tables.caption(t), read(t))
            for t in tables.suiting(run.model, run.tables)
            if t != "scores"
        ),
    )
