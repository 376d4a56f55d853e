"""The command line: eleven job verbs and a few helpers; each opens, calls and writes."""

from __future__ import annotations

import errno
import importlib
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from neuropipe.errors import NeuropipeError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From recordings to published models, figures, tables and a report.",
)
VERBS = (
    "fetch", "ingest", "quality", "preprocess", "fit", "transform", "score", "figure", "table",
    "cost", "report", "export", "embed",
    "init", "config", "trust", "manifest", "simulate", "doctor", "unlock",
)  # fmt: skip

# What the file system may refuse whatever the data are: one line says it all.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)

# What several verbs take.
Output = Annotated[Path, typer.Option("--output", "-o", help="Where the result goes.")]
Results = Annotated[Path, typer.Option(help="Folder of the study's results.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]

for _verb in VERBS:
    importlib.import_module(f"neuropipe.cli.{_verb}")


def main() -> None:
    """Run the command line; an expected error ends as one message, without a traceback."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    try:
        app()
    except NeuropipeError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(error.exit_status) from None
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        print(f"{error.strerror}: {error.filename or 'the disk'}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
