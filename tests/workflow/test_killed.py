"""A run that is killed and then run again gives the numbers of one that was not."""

import os
import signal
import subprocess

import numpy as np
import pytest

PROFILE = ("--workflow-profile", "workflow/profiles/local")


WHOLE = ("pipelines",)
# What the model alone leaves: a third of the jobs, and all kinds that fit or write stores.
PART = (
    "results/transform/states/fold-0.json",
    "results/transform/states/fold-1.json",
    "results/score/states/hmm_glm/fold-0.tsv",
    "results/score/states/hmm_glm/fold-1.tsv",
)


def kill_after(made, seconds, targets):
    """Start the study and kill all of it after so many seconds; return whether it was at work."""
    run = made.start("--cores", "2", *PROFILE, *targets)
    try:
        run.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        return True
    finally:
        run.communicate()
    return False


def resume_and_compare(made, finished, targets):
    made.unlock()
    code, said = made.snakemake("--cores", "2", *PROFILE, *targets)
    assert code == 0, said
    expected, found = finished.numbers(), made.numbers()
    assert found == {name: expected[name] for name in found}
    assert len(found) == len(expected) if targets == WHOLE else len(found) >= 8
    assert not list(made.results.glob("checkpoint/**/*.pt"))
    halves = [p for p in made.results.rglob(".*") if p.is_dir() and p.name != ".snakemake"]
    assert not halves


def test_killed_again_and_again_then_resumed(work, finished):
    """Once while data are made and once amid the fits, on the way to the same numbers."""
    assert finished.code == 0, finished.said
    made = work()
    for seconds in (4, 8):
        kill_after(made, seconds, PART)
        made.unlock()
    resume_and_compare(made, finished, PART)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_killed_at_ten_random_moments(work, finished, number):
    assert finished.code == 0, finished.said
    made = work()
    moment = np.random.default_rng([2024, number]).uniform(2, 40)
    kill_after(made, moment, WHOLE)
    resume_and_compare(made, finished, WHOLE)
