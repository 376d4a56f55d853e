"""`fetch`: get a session's files, or draw them, and write a receipt."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

import typer

from neuropipe.cli import Output, app
from neuropipe.cli.files import write_json
from neuropipe.config import build
from neuropipe.errors import FetchError, ManifestError
from neuropipe.models import SIMULATORS

log = logging.getLogger(__name__)


@app.command()
def fetch(
    manifest: Annotated[Path, typer.Argument(help="Manifest page (.yaml) of the data set.")],
    session: Annotated[str, typer.Option(help="Session id of the manifest.")],
    output: Output,
    optional: Annotated[bool, typer.Option(help="Note and go on when unreachable.")] = False,
    accept_terms: Annotated[bool, typer.Option(help="The data's terms are accepted.")] = False,
    skips: Annotated[int, typer.Option(help="How often it was skipped before.")] = 0,
) -> None:
    """Get one session's files, verified, and write a receipt that names them."""
    from neuropipe.io.fetch import fetch as get
    from neuropipe.io.fetch import together
    from neuropipe.io.manifest import read_manifest

    page = read_manifest(manifest)
    rows = page.sessions().get(session)
    if not rows:
        raise ManifestError(
            f"{manifest}: no session {session!r}; it has {', '.join(page.sessions())}"
        )
    receipt: dict[str, Any] = {
        "status": "fetched", "dataset": page.dataset, "session": session,
        "subject": rows[0].subject, "reader": page.reader, "options": page.options,
        "skips": skips, "truth": None,
    }  # fmt: skip
    try:
        if rows[0].simulated:
            receipt.update(_draw(rows[0].path, session, output))
        else:
            got = [get(row, page, accept_terms=accept_terms) for row in rows]
            receipt.update(_listed(together(got), {g.path: g.sha256 for g in got}))
    except FetchError as error:
        if not optional:
            raise
        log.warning("SKIPPED data set %s: %s", page.dataset, error)
        receipt.update(status="skipped", reason=str(error), skips=skips + 1, files=[])
    write_json(output, receipt)


def draw_session(path: str, session: str, folder: Path) -> tuple[list[Path], Path]:
    """Draw what ``simulate:MODEL?seed=1&key=value`` says into real files, truth beside them.

    Voltages and BOLD series become a BIDS tree, anything else an NWB file.
    """
    from neuropipe.io.store import write

    model, _, query = path.removeprefix("simulate:").partition("?")
    settings = dict(parse_qsl(query, strict_parsing=bool(query)))
    if model not in SIMULATORS or not settings.get("seed", "").isdigit():
        raise ManifestError(
            f"{path}: expected simulate:MODEL?seed=NUMBER&key=value with a model of "
            f"{', '.join(SIMULATORS)}"
        )
    seed = int(settings.pop("seed"))
    module = import_module(SIMULATORS[model])
    recording, truth = module.simulate(build(module.Plan, settings, path), seed)
    recording.attrs["session"] = session
    folder.mkdir(parents=True, exist_ok=True)
    planted = folder / f"{session}.truth.zarr"
    if {"ieeg", "bold"} & set(recording.children):
        from neuropipe.io.bids_write import write_bids

        recorded = write_bids(recording, folder / session, task="planted")
    else:
        from neuropipe.io.nwb_write import write_nwb

        recorded = [folder / f"{session}.nwb"]
        write_nwb(recording, recorded[0])
    write(truth, planted)
    return recorded, planted


def _listed(files: list[Path], known: dict[Path, str]) -> dict[str, Any]:
    """Return the receipt's list of files with a checksum each, and one for all."""
    from neuropipe.io.manifest import sha256_of, sha256_of_files

    digests = [known.get(file) or sha256_of(file) for file in files]
    return {
        "files": [{"path": str(f), "sha256": d} for f, d in zip(files, digests, strict=True)],
        "sha256": sha256_of_files(files, digests),
    }


def _draw(path: str, session: str, output: Path) -> dict[str, Any]:
    recorded, planted = draw_session(path, session, output.parent)
    return {**_listed(recorded, {}), "truth": str(planted)}
