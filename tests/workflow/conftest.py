"""A tiny study in a copy of the tree, so that a run is not disturbed by edits."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "neuropipe", "kernels", "config", "data_manifests")
PAGE = "title: Tiny\nlicence: CC0-1.0\nreader: nwb\nnodes: [spikes, units, trials]\n"
TABLE = (
    "session_id\tsubject\tpath\tbytes\tsha256\n"
    "s1\tm1\tsimulate:hmm_glm?seed=1&n_sequences=4&n_bins=300&n_states=2&n_units=6\t\t\n"
)
SMALL = {"n_states": 2, "link": "sigmoid", "n_restarts": 2, "screen_iterations": 4,
         "max_iterations": 6}  # fmt: skip


def study():
    """Return the configuration of the tiny study: one planted session, 2 folds, 2 baselines."""
    run = {
        "model": "hmm_glm",
        "dataset": "tiny",
        "seed": 1,
        "parameters": dict(SMALL),
        "split": {"by": "trial", "folds": 2},
        "baselines": ["homogeneous_rate", "poisson_glm"],
        "figures": ["score_comparison", "convergence"],
        "tables": ["scores"],
    }
    steps = [{"step": "bin_spikes", "bin_width_s": 0.02, "start_s": 0.0}]
    data = {"manifest": "data_manifests/tiny.yaml", "preprocess": steps}
    return {"study": "tiny", "title": "Tiny", "datasets": {"tiny": data}, "runs": {"states": run}}


class Work:
    """A working folder with its own copy of the code and a configuration."""

    def __init__(self, folder: Path, content: dict) -> None:
        self.folder = folder
        quiet = shutil.ignore_patterns("__pycache__", "results", ".snakemake")
        for part in PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / part, **({"ignore": quiet} if source.is_dir() else {}))
        (folder / "data_manifests" / "tiny.yaml").write_text(PAGE)
        (folder / "data_manifests" / "tiny.tsv").write_text(TABLE)
        self.configure(content)

    def configure(self, content: dict, name: str = "config.yaml") -> Path:
        """Write a configuration, by default the one that a run takes by itself."""
        path = self.folder / "config" / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    @property
    def results(self) -> Path:
        """Folder of results."""
        return self.folder / "results"

    def environment(self) -> dict[str, str]:
        """The copy's own code comes first; no proxy and no cache of the user is used."""
        bin_folder = self.folder / "bin"
        bin_folder.mkdir(exist_ok=True)
        command = bin_folder / "neuropipe"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m neuropipe.cli "$@"\n')
        command.chmod(0o755)
        return {
            **{k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
            "PATH": f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.folder}:{self.folder / 'kernels'}",
            "NEUROPIPE_CACHE": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *words: str) -> subprocess.Popen:
        """Start Snakemake in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *words],
            cwd=self.folder, env=self.environment(), start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def snakemake(self, *words: str) -> tuple[int, str]:
        """Run Snakemake to its end; return its exit code and what it said."""
        run = self.start(*words)
        try:
            said, _ = run.communicate(timeout=500)
        except BaseException:
            os.killpg(run.pid, signal.SIGKILL)
            raise
        return run.returncode, said

    def jobs(self, *words: str) -> dict[str, int]:
        """Return how many jobs of each rule a dry run would do."""
        code, said = self.snakemake(*words, "-n", "--quiet", "rules")
        assert code == 0, said
        table = re.findall(r"^([a-z_]+)\s+(\d+)$", said, re.MULTILINE)
        return {rule: int(n) for rule, n in table if rule != "total"}

    def unlock(self) -> None:
        """Remove the lock of a killed run."""
        words = [sys.executable, "-m", "neuropipe.cli", "unlock"]
        subprocess.run(words, cwd=self.folder, env=self.environment(), check=True)

    def numbers(self) -> dict[str, object]:
        """Return everything that must not depend on how a run went: hashes, scores, tables."""
        found: dict[str, object] = {}
        for pattern in ("fit/**/fit.json", "transform/*/*.json", "preprocess/splits/*.json"):
            for path in sorted(self.results.glob(pattern)):
                found[str(path.relative_to(self.results))] = json.loads(path.read_text())
        for path in sorted(self.results.glob("preprocess/tiny/*.json")):
            content = json.loads(path.read_text())["content_sha256"]
            found[str(path.relative_to(self.results))] = content
        for pattern in ("score/**/*.tsv", "table/**/*.tsv"):
            for path in sorted(self.results.glob(pattern)):
                found[str(path.relative_to(self.results))] = path.read_text()
        return found


@pytest.fixture
def work(tmp_path):
    """Return a function that makes a working folder for a configuration."""
    return lambda content=None: Work(tmp_path, content or study())


@pytest.fixture(scope="session")
def tiny_study():
    """Return the function that makes the tiny configuration anew."""
    return study


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The tiny study, run to its end, once for all workers of pytest-xdist; leave it as it is."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, note = base / "finished", base / "finished.json"
    with (base / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if note.exists():
            made = Work.__new__(Work)
            made.folder = folder
        else:
            folder.mkdir()
            made = Work(folder, study())
            profile = ("--workflow-profile", "workflow/profiles/local")
            note.write_text(json.dumps(made.snakemake("--cores", "2", *profile, "pipelines")))
    made.code, made.said = json.loads(note.read_text())
    return made
