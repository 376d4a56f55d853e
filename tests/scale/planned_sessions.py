"""What planning costs: a dry run of a study of many sessions, its time and peak memory.

Usage: python tests/scale/planned_sessions.py 10 100 1000

Each session has four files, as a BIDS run has. The study fits one model and two baselines on two
folds. Rising numbers, since the peak is that of all dry runs so far.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
STUDY = {
    "study": "many",
    "title": "Many sessions",
    "datasets": {
        "many": {
            "manifest": "data_manifests/many.yaml",
            "preprocess": [{"step": "bin_spikes", "bin_width_s": 0.02, "start_s": 0.0}],
        }
    },
    "runs": {
        "states": {
            "model": "hmm_glm", "dataset": "many", "seed": 1, "parameters": {"n_states": 2},
            "split": {"by": "session", "folds": 2},
            "baselines": ["homogeneous_rate", "poisson_glm"],
        }
    },
}  # fmt: skip
PAGE = "title: Many\nlicence: CC0-1.0\nreader: nwb\nnodes: [spikes, units, trials]\n"


def written(folder, n_sessions):
    """Write a study of so many sessions, with the workflow beside it."""
    for part in ("Snakefile", "workflow"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    (folder / "data_manifests").mkdir()
    (folder / "data_manifests/many.yaml").write_text(PAGE)
    rows = [f"s{i}\tm{i}\tfiles/s{i}_{part}.nwb\t1000000\t{'0' * 64}"
            for i in range(n_sessions) for part in range(4)]  # fmt: skip
    head = "session_id\tsubject\tpath\tbytes\tsha256"
    (folder / "data_manifests/many.tsv").write_text("\n".join([head, *rows, ""]))
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))


def planned(n_sessions):
    """Return seconds and jobs of a dry run."""
    with tempfile.TemporaryDirectory() as name:
        written(Path(name), n_sessions)
        began = time.perf_counter()
        said = subprocess.run(
            [sys.executable, "-m", "snakemake", "pipelines", "-n", "--quiet", "rules",
             "--configfile", "study.yaml"],
            cwd=name, check=True, capture_output=True, text=True,
        )  # fmt: skip
        total = next(line for line in said.stdout.splitlines() if line.startswith("total"))
        return time.perf_counter() - began, int(total.split()[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sessions", type=int, nargs="+")
    for n_sessions in sorted(parser.parse_args().sessions):
        seconds, jobs = planned(n_sessions)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
        print(f"{n_sessions} sessions, {jobs} jobs: {seconds:.1f} s, "
              f"{1000 * seconds / jobs:.1f} ms a job, peak {peak:.0f} MB", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
