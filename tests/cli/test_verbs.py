"""Each verb on a tiny planted session: what it writes, and how it refuses."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from neuropipe.io.manifest import read_manifest, sha256_of
from neuropipe.io.store import open_recording, verify_store
from neuropipe.results import SCORE_COLUMNS


def read(path):
    return json.loads(path.read_text())


def test_fetch_writes_a_receipt(study):
    receipt = read(study.receipt)
    [file] = receipt["files"]
    assert receipt["status"] == "fetched"
    assert (receipt["session"], receipt["subject"]) == ("s1", "m1")
    assert sha256_of(study.receipt.with_name("s1.nwb")) == file["sha256"]
    truth = open_recording(receipt["truth"]).to_dataset()
    assert set(truth["weight"].dims) == {"state", "unit", "source_unit"}


def test_ingest_and_preprocess(study):
    ingested, prepared = open_recording(study.ingested), open_recording(study.prepared)
    assert {"spikes", "units", "trials"} <= set(ingested.children)
    assert prepared.attrs["subject"] == "m1"
    assert [h["name"] for h in json.loads(prepared.attrs["history"])][-1] == "bin_spikes"
    counts = prepared["counts/spike_count"]
    assert counts.sizes["unit"] == 6
    assert int(counts.sum()) == ingested["spikes"].sizes["spike"]
    verify_store(study.prepared)


def test_splits(study):
    splits = read(study.splits)
    assert len(splits["folds"]) == 2
    held = [tuple(w) for fold in splits["folds"] for w in fold["test"]["s1"]]
    assert len(set(held)) == 4


@pytest.mark.parametrize("name", ["homogeneous_rate", "hmm_glm"])
def test_fit(study, name):
    folder = study.fit(name).parent
    note, provenance = read(study.fit(name)), read(folder / "provenance.json")
    stored = open_recording(folder / "parameters.zarr")
    assert note["estimator"] == name
    assert note["parameters_sha256"] == read(folder / "parameters.json")["content_sha256"]
    assert provenance["seed"] == 1
    prepared = read(study.prepared.with_suffix(".json"))["content_sha256"]
    assert provenance["inputs_sha256"] == {"s1.zarr": prepared}
    assert stored.to_dataset().sizes["unit"] == 6
    assert (folder / "history.zarr").is_dir()
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


def test_transform_covers_the_held_out_windows_only(study):
    note = read(study.transform)
    assert set(note) == {"fold", "sessions"}
    estimates = open_recording(study.transform.with_suffix("") / "s1.zarr").to_dataset()
    np.testing.assert_allclose(estimates["state_probability"].sum("state"), 1, rtol=1e-5)
    held = np.array(read(study.splits)["folds"][0]["test"]["s1"])
    time = estimates["time"].values
    inside = (time[:, None] >= held[:, 0]) & (time[:, None] < held[:, 1])
    assert inside.any(1).all()
    assert len(time) == 600


def test_scores(study):
    for name in ("homogeneous_rate", "hmm_glm"):
        table = pd.read_csv(study.score(name), sep="\t")
        assert tuple(table.columns) == SCORE_COLUMNS
        assert set(table["metric"]) == {"log_likelihood_per_bin", "bits_per_spike"}
        assert np.isfinite(table["value"]).all()
        assert set(table["session"]) == {"s1"}
    null = pd.read_csv(study.score("homogeneous_rate"), sep="\t").set_index("metric")["value"]
    assert null["bits_per_spike"] == 0.0


def test_the_same_fit_gives_the_same_numbers(study, neuropipe, fit_command, tmp_path):
    words, quick = fit_command
    again = tmp_path / "fold-0" / "fit.json"
    assert neuropipe(*words(study, "hmm_glm", again, **quick)) == 0
    assert read(again) == read(study.fit("hmm_glm"))


def test_a_fit_replaces_only_a_fit(study, neuropipe, refused, fit_command, tmp_path):
    words, _ = fit_command
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("dear")
    said = refused(*words(study, "homogeneous_rate", mine / "fit.json"))
    assert "holds files that no neuropipe step wrote" in said
    assert (mine / "notes.txt").read_text() == "dear"
    fresh = tmp_path / "fold-0" / "fit.json"
    for _ in range(2):
        assert neuropipe(*words(study, "homogeneous_rate", fresh)) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fold-0", "mine"]


def refusals():
    """Return what each faulty command says; places in braces are filled in by the test."""

    def fitting(*more, name="homogeneous_rate"):
        return ["fit", name, "{s.prepared}", "--splits", "{s.splits}", "--seed", 1,
                "--output", "{tmp}/f/fit.json", *more]  # fmt: skip

    split = ["preprocess", "{s.prepared}", "--output", "{tmp}/x.json"]
    run = ["--run", "r", "--output", "{tmp}/x.svg", "--settings"]
    return {
        "unknown session": (
            ["fetch", "{s.page}", "--session", "s9", "--output", "{tmp}/r.json"],
            "no session 's9'; it has s1",
        ),
        "no manifest": (
            ["fetch", "{s.root}/tinny.yaml", "--session", "s1", "--output", "{tmp}/r.json"],
            "no such manifest; did you mean 'tiny'?",
        ),
        "no receipt": (["ingest", "{tmp}/none.json", "--output", "{tmp}/x.zarr"], "none.json"),
        "damaged receipt": (
            ["ingest", "{s.page}", "--output", "{tmp}/x.zarr"],
            "delete it and run its step again",
        ),
        "no store": (["preprocess", "{tmp}/no.zarr", "--output", "{tmp}/x.zarr"], "nothing there"),
        "two stores": (
            ["preprocess", "{s.ingested}", "{s.prepared}", "--output", "{tmp}/x.zarr"],
            "expected one store, found 2",
        ),
        "steps": (
            ["preprocess", "{s.ingested}", "--steps", '[{"step": "bin_spike"}]',
             "--output", "{tmp}/x.zarr"],
            "did you mean 'bin_spikes'?",
        ),
        "not JSON": (
            ["preprocess", "{s.ingested}", "--steps", "[", "--output", "{tmp}/x.zarr"],
            "--steps: not JSON",
        ),
        "split seed": ([*split, "--split", '{"by": "trial", "folds": 2}'], "needs --seed"),
        "split key": (
            [*split, "--seed", 1, "--split", '{"by": "trial", "fold": 2}'],
            "unknown key 'fold'; did you mean 'folds'?",
        ),
        "too many folds": (
            [*split, "--seed", 1, "--split", '{"by": "trial", "folds": 9}'],
            "session s1: trials: found 4",
        ),
        "estimator": (fitting("--fold", 0, name="hmm_gml"), "did you mean 'hmm_glm'?"),
        "fold": (fitting("--fold", 2), "fold 2, expected 0 to 1"),
        "parameter": (
            fitting("--fold", 0, "--parameters", '{"min_spike": 3}'),
            "unknown key 'min_spike'; did you mean 'min_spikes'?",
        ),
        "zero units": (
            fitting("--fold", 0, "--parameters", '{"min_spikes": 1000000}'),
            "none of 6 units has 1000000 spikes",
        ),
        "one-line device": (
            fitting("--fold", 0, "--device", "cuda:99", name="hmm_glm"), "cuda:99",
        ),
        "figure": (["figure", "convergance", *run, "{settings}"], "did you mean 'convergence'?"),
        "table": (["table", "score", *run, "{settings}"], "did you mean 'scores'?"),
        "simulator": (
            ["simulate", "hmm", "--seed", 1, "--output", "{tmp}/d"], "a model of du_in, hmm_glm",
        ),
        "simulator key": (
            ["simulate", "hmm_glm", "--seed", 1, "--set", "n_unit=3", "--output", "{tmp}/d"],
            "unknown key 'n_unit'; did you mean 'n_units'?",
        ),
        "simulator value": (
            ["simulate", "hmm_glm", "--seed", 1, "--set", "n_units", "--output", "{tmp}/d"],
            "expected key=value",
        ),
        "manifest": (["manifest", "{tmp}", "--output", "{tmp}/d"], "found 0 recordings"),
    }  # fmt: skip


@pytest.mark.parametrize("case", refusals())
def test_an_error_is_one_line(study, refused, tmp_path, case):
    words, message = refusals()[case]
    split = {"by": "trial", "folds": 2}
    settings = {"model": "hmm_glm", "dataset": "tiny", "seed": 1, "split": split}
    places = {f"{{s.{name}}}": str(place) for name, place in vars(study).items()}
    places |= {"{tmp}": str(tmp_path), "{settings}": json.dumps(settings)}
    filled = []
    for word in map(str, words):
        for place, value in places.items():
            word = word.replace(place, value)
        filled.append(word)
    if case == "one-line device":
        import torch

        if torch.cuda.is_available():
            pytest.skip("the CUDA card is there")
    assert message in refused(*filled)
    left = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not left


def test_simulate_writes_what_fetch_and_ingest_can_read(neuropipe, tmp_path, capsys):
    small = [w for key in ("n_units=3", "n_bins=40", "n_sequences=2") for w in ("--set", key)]
    folder = tmp_path / "drawn"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pynwb says while it writes is not under test
        assert neuropipe("simulate", "hmm_glm", "--seed", 3, *small, "--output", folder) == 0
    page = read_manifest(folder / "planted_hmm_glm.yaml")
    [session] = page.sessions()
    receipt = tmp_path / "receipt.json"
    words = ("fetch", folder / "planted_hmm_glm.yaml", "--session", session, "--output", receipt)
    assert neuropipe(*words) == 0
    assert neuropipe("ingest", receipt, "--output", tmp_path / "x.zarr") == 0
    assert open_recording(tmp_path / "x.zarr")["trials"].sizes["trial"] == 2


def test_the_installed_command_ends_with_its_exit_code(tmp_path):
    for words, code in ((["--help"], 0), (["fetch", "no.yaml", "--session", "s", "-o", "x"], 1)):
        done = subprocess.run(
            [sys.executable, "-m", "neuropipe.cli", *words],
            cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
