"""`unlock`: remove the lock that a killed run left behind, unless another run lives."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from neuropipe.cli import app
from neuropipe.errors import ConfigError


def living_runs(folder: Path) -> list[int]:
    """Return the processes of Snakemake, and of jobs it left, that work in a folder, by /proc."""
    own = {os.getpid(), os.getppid()}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            here = (entry / "cwd").resolve() == folder
        except OSError:
            continue  # gone meanwhile, or somebody else's
        runs = any(Path(os.fsdecode(word)).name in ("snakemake", "neuropipe") for word in words[:3])
        if here and runs and int(entry.name) not in own:
            found.append(int(entry.name))
    return sorted(found)


def queued_jobs(folder: Path) -> list[str]:
    """Return the numbers of one's own Slurm jobs that wait or work in a folder."""
    if shutil.which("squeue") is None:
        return []
    done = subprocess.run(
        ["squeue", "--me", "--noheader", "--format=%i %Z"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    return [row[0] for row in rows if len(row) == 2 and Path(row[1]).resolve() == folder]


@app.command()
def unlock(
    folder: Annotated[Path, typer.Argument(help="Working folder of the study.")] = Path(),
) -> None:
    """Remove a stale lock; refuse while another run, or a job that it left, works in the folder."""
    locks = folder / ".snakemake" / "locks"
    if not locks.is_dir() or not any(locks.iterdir()):
        return
    living = living_runs(folder.resolve())
    if living:
        raise ConfigError(
            f"{folder.resolve()}: another run lives here (process {living[0]}); wait for it, or "
            "stop it, before you start one more"
        )
    jobs = queued_jobs(folder.resolve())
    if jobs:
        raise ConfigError(
            f"{folder.resolve()}: jobs of a run that was killed still wait or work ({len(jobs)}); "
            f"let them end, or say `scancel {' '.join(jobs)}`"
        )
    shutil.rmtree(locks)
    Console().print("removed the lock of a run that was killed")
