"""`doctor`: what this machine can run, and which stores or manifests are broken."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from neuropipe import __version__
from neuropipe.cli import app
from neuropipe.cli.files import results_of, working_folder
from neuropipe.errors import NeuropipeError

PACKAGES = ("torch", "triton", "numpy", "xarray", "zarr", "dask", "pynwb", "snakemake")


@app.command()
def doctor(
    results: Annotated[Path, typer.Option(help="Folder of results to look through.")] = Path(
        "results"
    ),
    manifests: Annotated[Path, typer.Option(help="Folder of manifests to look through.")] = Path(
        "data_manifests"
    ),
    plan: Annotated[
        Path | None, typer.Option(help="Configuration of a study: what its jobs will need.")
    ] = None,
) -> None:
    """Say what this machine has, and what is broken; exits 1 when something is."""
    if plan is not None:
        Console().print(_planned(plan, results))
        return
    out = Table("what", "found", "remark", title=f"neuropipe {__version__}")
    out.add_row("python", platform.python_version(), "")
    for name in PACKAGES:
        try:
            out.add_row(name, version(name), "")
        except PackageNotFoundError:
            out.add_row(name, "-", "not installed")
    out.add_row("GPU", *_gpu())
    slow = "interpreter on: slow" if os.environ.get("TRITON_INTERPRET") == "1" else ""
    out.add_row("kernels", os.environ.get("NEUROPIPE_KERNELS", "auto"), slow)
    out.add_row("cores", str(len(os.sched_getaffinity(0))), "")
    free = shutil.disk_usage(Path.cwd()).free
    out.add_row("free disk", f"{free / 1e9:.1f} GB", "low" if free < 5e9 else "")
    out.add_row("Slurm", *_slurm())
    faults = [*_broken_manifests(manifests), *_broken_stores(results)]
    for path, fault in faults:
        out.add_row("broken", str(path), fault)
    Console().print(out)
    if faults:
        raise SystemExit(1)


def _planned(config: Path, results: Path) -> Table:
    """Return the jobs of a study, with the memory and time of each."""
    from neuropipe.config import read_study
    from neuropipe.plan import plan

    study = read_study(config)
    folder = working_folder(study, config)
    jobs = list(plan(study, results_of(results, folder), folder))
    out = Table("rule", "job", "memory (MB)", "time (s)", "basis", title=f"plan of {config}")
    for job in jobs:
        out.add_row(job.rule, job.name, f"{job.memory_mb:,}", f"{job.seconds:,.0f}", job.basis)
    most = max((job.memory_mb for job in jobs), default=0)
    total = sum(job.seconds for job in jobs)
    out.add_section()
    out.add_row("all", f"{len(jobs)} jobs", f"{most:,} at most", f"{total:,.0f} on one core", "")
    return out


def _gpu() -> tuple[str, str]:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), f"CUDA {torch.version.cuda}"
    built = torch.version.cuda or "a CPU build"
    return "none", f"torch is {built}; models run on the CPU"


def _slurm() -> tuple[str, str]:
    if shutil.which("sbatch") is None:
        return "none", ""
    if shutil.which("sacct") is None:
        return "sbatch", "no accounting: keep slurm-status-command: squeue in the profile"
    return "sbatch, sacct", ""


def _broken_manifests(folder: Path) -> list[tuple[Path, str]]:
    from neuropipe.io.manifest import read_manifest

    return _faults(sorted(folder.glob("*.yaml")), read_manifest)


def _broken_stores(folder: Path) -> list[tuple[Path, str]]:
    from neuropipe.io.store import open_recording

    stores = [p for p in folder.glob("*/**/*.zarr") if not any(
        parent.suffix == ".zarr" for parent in p.parents)]  # fmt: skip
    return _faults(sorted(stores), open_recording)


def _faults(paths: list[Path], opener) -> list[tuple[Path, str]]:
    found = []
    for path in paths:
        try:
            opener(path)
        except NeuropipeError as error:
            found.append((path, str(error)))
    return found
