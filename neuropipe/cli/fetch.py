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
            receipt["files"] = [{"path": str(g.path), "sha256": g.sha256} for g in got]
    except FetchError as error:
        if not optional:
            raise
        log.warning("SKIPPED data set %s: %s", page.dataset, error)
        receipt.update(status="skipped", reason=str(error), skips=skips + 1, files=[])
    write_json(output, receipt)


def draw_session(path: str, session: str, folder: Path) -> tuple[Path, Path]:
    """Draw what ``simulate:MODEL?seed=1&key=value`` says and write it as NWB, truth beside it."""
    from neuropipe.io.nwb_write import write_nwb
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
    recorded, planted = folder / f"{session}.nwb", folder / f"{session}.truth.zarr"
    write_nwb(recording, recorded)
    write(truth, planted)
    return recorded, planted


def _draw(path: str, session: str, output: Path) -> dict[str, Any]:
    from neuropipe.io.manifest import sha256_of

    recorded, planted = draw_session(path, session, output.parent)
    return {
        "files": [{"path": str(recorded), "sha256": sha256_of(recorded)}],
        "truth": str(planted),
    }
