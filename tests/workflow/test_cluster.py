"""The same study through a batch system: the same numbers, whatever ends a job half-way."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml

QUICK = ("--set-resources", "fit:runtime=5", "--latency-wait", "10")


def answers():
    """Return whether there is a Slurm that takes jobs."""
    if shutil.which("sinfo") is None:
        return False
    found = subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, check=False)
    return any(state in found.stdout for state in ("idle", "mix", "alloc"))


needs_slurm = pytest.mark.skipif(not answers(), reason="no Slurm answers on this machine")


@pytest.mark.parametrize("profile", ["local", "slurm", "slurm-gpu", "generic"])
def test_profiles_are_whole(profile, work):
    """Each one survives a kill, shows what failed, and grows with the attempt."""
    made = work()
    path = made.folder / "workflow" / "profiles" / profile / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    assert settings["rerun-incomplete"] is True
    assert settings["show-failed-logs"] is True
    assert profile == "local" or settings["retries"] >= 1
    status = settings.get("cluster-generic-status-cmd")
    assert status is None or (made.folder / status).stat().st_mode & 0o111


@needs_slurm
@pytest.mark.slow
@pytest.mark.parametrize("profile", ["slurm", "generic"])
def test_a_batch_system_gives_the_same_numbers(profile, work, finished):
    assert finished.code == 0, finished.said
    made = work()
    code, said = made.snakemake("--workflow-profile", f"workflow/profiles/{profile}", *QUICK,
                                "pipelines")  # fmt: skip
    assert code == 0, said
    assert made.numbers() == finished.numbers()
    assert not list(made.results.glob("checkpoint/**/*.pt"))


@pytest.mark.slow
def test_processes_share_the_fits_of_the_model_alone(work, finished):
    assert finished.code == 0, finished.said
    made = work()
    local = ("--cores", "2", "--workflow-profile", "workflow/profiles/local")
    code, said = made.snakemake(*local, "--set-resources", "fit:processes=2", "--set-threads",
                                "fit=2", "--", "results/cost.tsv")  # fmt: skip
    assert code == 0, said
    one, two = (pd.read_csv(m.results / "cost.tsv", sep="\t") for m in (finished, made))
    assert set(one["processes"]) == {1}
    assert set(two.loc[two["estimator"] == "hmm_glm", "processes"]) == {2}
    assert set(two.loc[two["estimator"] != "hmm_glm", "processes"]) == {1}
    np.testing.assert_allclose(two["bits_per_spike"], one["bits_per_spike"], rtol=1e-5)
