"""`report`: everything that a study has made, on one page."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuropipe import __version__
from neuropipe.cli import Output, Results, app
from neuropipe.cli.files import parse_json, read_json, results_of, working_folder
from neuropipe.cli.provenance import code_version
from neuropipe.config import Run, Study, build, read_study
from neuropipe.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from neuropipe.report import DataSource, Job, Quality, RunReport, Skipped, Table
    from neuropipe.results import RunResults


REPORTED = ("/scores", "/recordings")  # tables without which a run has no page


@app.command()
def report(
    output: Output,
    study: Annotated[str, typer.Option(help="JSON of the whole configuration.")] = "",
    config: Annotated[Path | None, typer.Option(help="Or the configuration file.")] = None,
    results: Results = Path("results"),
    partial: Annotated[
        bool, typer.Option(help="Leave out what was not made, and say why, instead of refusing.")
    ] = False,
) -> None:
    """Write the report of a study as one HTML page that needs nothing else."""
    from neuropipe.cli.jobs import jobs_of
    from neuropipe.report import StudyReport, render

    block = _study(study, config)
    folder = working_folder(block, config) if config is not None else Path()
    results = results_of(results, folder)
    jobs = tuple(jobs_of(block, results, folder))
    skipped = [s for name in block.datasets for s in _skipped(name, block, results)]
    left_out = {s.name for s in skipped}
    if partial:
        missing = _missing(block, jobs, left_out)
        skipped += missing
        left_out |= {s.name for s in missing}
    runs = {n: r for n, r in block.runs.items() if r.dataset not in left_out and n not in left_out}
    reports = [_run(name, run, results, jobs) for name, run in runs.items()]
    kept = [name for name in block.datasets if name not in left_out]
    quality = [q for name in kept for q in _quality(name, block, results, folder, left_out)]
    libraries = ("torch", "xarray", "zarr", "pynwb", "nibabel", "nilearn", "mne", "scikit-learn",
                 "snakemake")  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    render(
        StudyReport(
            title=block.title or block.study,
            runs=tuple(reports),
            recordings=_recordings(quality, runs, results),
            datasets=tuple(_source(name, block, folder) for name in kept),
            quality=tuple(quality),
            skipped=tuple(skipped),
            provenance={
                "neuropipe": __version__,
                "commit": code_version()["commit"] or "unknown",
                "sha256 of the code": code_version()["sha256"] or "unknown",
                **{name: version(name) for name in libraries},
                "python": platform.python_version(),
                "platform": platform.platform(),
                "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            },
            command=_command(config),
            fits=_fits(results / "cost.tsv"),
            jobs=jobs,
            config=_yaml(block),
        ),
        output,
    )


def _study(study: str, config: Path | None) -> Study:
    if bool(study) == (config is not None):
        raise ConfigError("report: say either --study or --config")
    if config is not None:
        return read_study(config)
    return build(Study, parse_json(study, "--study"), "--study")


def _command(config: Path | None) -> str:
    return f"snakemake --configfile {config or 'config.yaml'} --cores N pipelines"


def _yaml(study: Study) -> str:
    import yaml

    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _missing(study: Study, jobs: tuple[Job, ...], left_out: set[str]) -> list[Skipped]:
    """Return the recordings and runs that lack what their page is made of, and why."""
    from neuropipe.report import Skipped

    out = []
    for owner in dict.fromkeys(job.owner for job in jobs):
        dataset = study.runs[owner].dataset if owner in study.runs else owner.split("/")[0]
        needed = [j for j in jobs if j.owner == owner and j.rule not in ("figure", "table")]
        needed += [j for j in jobs if j.owner == owner and j.name.endswith(REPORTED)]
        lost = [job for job in needed if job.status != "done"]
        if not lost or dataset in left_out:
            continue
        failed = [job for job in lost if job.status == "failed"]
        why = (
            f"; the first to fail, {failed[0].rule} {failed[0].name}: {failed[0].note}"
            if failed
            else ""
        )
        out.append(Skipped(owner, f"{len(lost)} of {len(needed)} jobs were not done{why}"))
    return out


def _skipped(name: str, study: Study, results: Path) -> list[Skipped]:
    from neuropipe.report import Skipped

    notes = [read_json(p) for p in sorted((results / "fetch" / name).glob("*.json"))
             if not p.name.endswith(".truth.json")]  # fmt: skip
    lost = [n for n in notes if n.get("status") == "skipped"]
    return [Skipped(name, lost[0]["reason"])] if lost else []


def _source(name: str, study: Study, folder: Path) -> DataSource:
    from neuropipe.io.manifest import read_manifest
    from neuropipe.report import DataSource

    page = read_manifest(folder / study.datasets[name].manifest)
    drawn = all(row.simulated for row in page.rows)
    return DataSource(name, page.title, page.doi, page.licence, page.reader, page.citation, drawn)


def _quality(
    name: str, study: Study, results: Path, folder: Path, left_out: set[str]
) -> list[Quality]:
    """Return the checks of a data set's recordings, with what was done to each."""
    import pandas as pd

    from neuropipe.io.manifest import read_manifest
    from neuropipe.io.store import open_recording
    from neuropipe.report import Quality

    wanted = study.datasets[name].sessions
    known = read_manifest(folder / study.datasets[name].manifest).sessions()
    found = []
    for session in known if wanted == "all" else wanted:
        if f"{name}/{session}" in left_out:
            continue
        stores = [results / room / name / f"{session}.zarr" for room in ("preprocess", "ingest")]
        store = next(path for path in stores if path.exists())
        history = tuple(json.loads(open_recording(store).attrs.get("history", "[]")))
        table = results / "quality" / name / f"{session}.tsv"
        checks = pd.read_csv(table, sep="\t", na_values=["n/a"], keep_default_na=False)
        svg = table.with_suffix(".svg").read_text()
        found.append(Quality(name, session, checks, svg, history))
    return found


def _recordings(quality: list[Quality], runs: dict[str, Run], results: Path) -> pd.DataFrame:
    """Return a row a recording: where it comes from, what it holds, and what the models saw."""
    import pandas as pd

    from neuropipe.cli.gather import TEXT
    from neuropipe.io.store import open_recording

    rows = []
    for item in quality:
        recording = open_recording(results / "ingest" / item.dataset / f"{item.session}.zarr")
        nodes = sorted(g.strip("/") for g in recording.groups if recording[g].variables)
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


def _run(name: str, run: Run, results: Path, jobs: tuple[Job, ...]) -> RunReport:
    import pandas as pd

    from neuropipe import figures, tables
    from neuropipe.cli.gather import TEXT, gather
    from neuropipe.figures.style import notice_of
    from neuropipe.report import Figure, RunReport, Table

    found = gather(name, run, results)

    def drawn(figure: str) -> Figure:
        path = results / "figure" / name / f"{figure}.svg"
        svg = path.read_text()
        shown = str(path.relative_to(results.parent))  # no folder of this machine's in the page
        return Figure(figure, figures.caption(figure), svg, shown, notice_of(svg))

    def read(table: str) -> pd.DataFrame:
        return pd.read_csv(results / "table" / name / f"{table}.tsv", sep="\t", dtype=TEXT)

    lost = {j.name for j in jobs if j.rule in ("figure", "table") and j.status != "done"}
    warnings = tuple(f"Not made: {path.replace('/', ', ')}." for path in sorted(lost)
                     if path.startswith(f"{name}/"))  # fmt: skip
    converged: dict[str, list[bool]] = {}
    for (estimator, _), history in sorted(found.history.items()):
        converged.setdefault(estimator, []).append(bool(history.attrs.get("converged", 1)))
    return RunReport(
        run=name,
        model=run.model,
        dataset=run.dataset,
        seed=run.seed,
        settings=run.model_dump(),
        splits=_splits(run),
        converged={e: tuple(flags) for e, flags in converged.items()},
        scores=read("scores"),
        recordings=read("recordings"),
        figures=tuple(
            drawn(f) for f in figures.suiting(run.model, run.figures) if f"{name}/{f}" not in lost
        ),
        tables=tuple(
            Table(t, tables.caption(t), read(t))
            for t in tables.suiting(run.model, run.tables)
            if t != "scores" and f"{name}/{t}" not in lost
        ),
        warnings=warnings,
        sessions=_sessions(found),
        trust=_trust(name, run.model, results / "trust" / f"{name}.tsv"),
    )


def _splits(run: Run) -> dict[str, Any]:
    """Return how the folds were made, without the column that only folds by stimulus read."""
    found = run.split.model_dump()
    return (
        found if run.split.by == "stimulus" else {k: v for k, v in found.items() if k != "column"}
    )


def _trust(name: str, model: str, path: Path) -> Table | None:
    """Return what the command `trust` has written of a run, None where nobody asked."""
    import pandas as pd

    from neuropipe.report import Table
    from neuropipe.report.trust import trust_sentence

    if not path.is_file():
        return None
    frame = pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False)
    return Table("trust", trust_sentence(model, frame), frame)


def _sessions(found: RunResults) -> pd.DataFrame:
    """Return the scores of each session, means over folds, with the session's subject."""
    keys = ["session", "estimator", "metric"]
    means = found.scores.groupby(keys, as_index=False)["value"].mean()
    subjects = {s: str(r.attrs.get("subject", s)) for s, r in found.recordings.items()}
    return means.assign(subject=means["session"].map(subjects))
