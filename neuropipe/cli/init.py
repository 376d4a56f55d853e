"""`init`: a commented configuration for a folder of one's own recordings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from neuropipe.cli import app
from neuropipe.cli.files import write_text
from neuropipe.errors import ConfigError, ManifestError

if TYPE_CHECKING:
    from neuropipe.drafts import Contents

log = logging.getLogger(__name__)

PAGES = "data_manifests"
CONFIG = "config.yaml"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of recordings.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the study; default the data's own name."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set.")] = None,
) -> None:
    """Look through a folder; write its manifests and a configuration that is ready to run."""
    from neuropipe.checks import check_references
    from neuropipe.config import read_study
    from neuropipe.drafts import advise, draft
    from neuropipe.plan import plan

    if not folder.is_dir():
        raise ManifestError(f"{folder}: found no folder, expected one with recordings")
    called = _plain(name or folder.resolve().name)
    place = output or Path(called)
    config = place / CONFIG
    if config.exists():
        raise ConfigError(f"{config}: is there already; remove it, or name another --output")
    pages = _manifests(folder, place / PAGES, called)
    found = [_look(page) for page in pages]
    advised = [(contents, advise(contents)) for contents in found]
    text = draft(called, {page.stem: f"{PAGES}/{page.name}" for page in pages}, advised)
    write_text(config, text)
    study = read_study(config)
    check_references(study, place)
    jobs = list(plan(study, place / "results", place))
    most, total = max(job.memory_mb for job in jobs), sum(job.seconds for job in jobs)
    minutes = max(1, round(total / 60))
    needs = f"{len(jobs)} jobs, at most {most:,} MB each, from {minutes} min on one core"
    write_text(config, text + f"# Plan: {needs}; `neuropipe doctor --plan` tells each job.\n")
    said = Console(soft_wrap=True)
    for contents, advice in advised:
        said.print(f"{contents.name}: {', '.join(sorted(contents.nodes))}")
        for one in advice:
            mark = "suits" if one.suits else "does not suit"
            said.print(f"  {one.model} {mark}: {one.why}", markup=False)
    said.print(f"plan: {needs}")
    here = Path("Snakefile").is_file()
    if not here:
        place, config = place.resolve(), config.resolve()
    said.print(f"wrote {config}; look through it, then{'' if here else ', in the clone'}:")
    said.print(f"  neuropipe config validate {config}", markup=False)
    words = f"snakemake --directory {place} --configfile {config} --cores 2"
    said.print(f"  {words} -n pipelines    # what would run", markup=False)
    said.print(f"  {words} pipelines", markup=False)
    said.print(f"the report will be {place / 'results' / 'report' / 'index.html'}", markup=False)


def _plain(name: str) -> str:
    """Return a name that a study and a data set may have."""
    kept = "".join(c if c.isascii() and c.isalnum() else "_" for c in name.lower()).strip("_")
    return kept or "study"


def _manifests(folder: Path, out_dir: Path, name: str) -> list[Path]:
    """Write the manifests of a folder; plain arrays get a page that is guessed first."""
    from neuropipe.io.survey import candidates_in, write_manifests
    from neuropipe.io.table_draft import GUESSED, draft_page

    page = out_dir / f"{name}.yaml"
    if not page.exists() and not candidates_in(folder):
        write_text(page, draft_page(folder, name.replace("_", " ")))
        log.warning("%s: guessed from the arrays of the folder; check it before you run", page)
        try:
            return write_manifests(folder, out_dir, name, suffixes=GUESSED)
        except ManifestError:
            page.unlink()
            raise
    return write_manifests(folder, out_dir, name)


def _look(page: Path) -> Contents:
    from neuropipe.drafts import look
    from neuropipe.io import reader
    from neuropipe.io.manifest import read_manifest

    manifest = read_manifest(page)
    read = reader(manifest.reader)
    quiet = logging.getLogger("neuropipe.io")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # the survey has said it once
    try:
        recordings = [
            read([manifest.folder / row.path for row in rows], session=session,
                 subject=rows[0].subject, sha256="", **manifest.options)
            for session, rows in manifest.sessions().items()
        ]  # fmt: skip
    finally:
        quiet.setLevel(level)
    return look(page.stem, manifest.reader, recordings)
