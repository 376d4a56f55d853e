"""A folder looked through: BIDS trees, derivatives, bare files and what must be refused."""

import json
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from neuropipe.errors import ManifestError, ReaderError
from neuropipe.io import bids, runs, sidecars
from neuropipe.io.fetch import fetch
from neuropipe.io.manifest import Row, read_manifest
from neuropipe.io.survey import write_manifests


@pytest.fixture
def tree(tmp_path):
    """Return a function that makes empty files of a BIDS tree, and its root."""
    root = tmp_path / "tree"

    def make(*names: str, **contents: str) -> Path:
        for name in (bids.DESCRIPTION, *names):
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text('{"Name": "t", "BIDSVersion": "1.9.0"}' if "desc" in name else "")
        return root

    return make


FUNC = "sub-01/ses-a/func/sub-01_ses-a_task-x"


def test_runs_of_a_task_are_one_session_in_their_order(tree):
    names = [f"{FUNC}_run-{n}_bold.nii.gz" for n in (10, 2, 1)]
    other = FUNC.replace("task-x", "task-y")
    root = tree(*names, f"{FUNC}_run-2_events.tsv", "task-x_bold.json", f"{other}_bold.nii.gz")
    found = {s.session_id: s for s in bids.sessions(root)}
    assert set(found) == {"sub-01_ses-a_task-x", "sub-01_ses-a_task-y"}
    one = found["sub-01_ses-a_task-x"]
    assert [bids.Name(p).entities["run"] for p in one.recordings] == ["1", "2", "10"]
    assert {p.name for p in one.companions} == {
        "task-x_bold.json", "sub-01_ses-a_task-x_run-2_events.tsv"
    }  # fmt: skip


def test_derivatives_stand_beside_raw_and_lend_what_only_one_says(tree):
    out = "derivatives/prep/" + FUNC
    root = tree(f"{FUNC}_bold.nii.gz", f"{FUNC}_events.tsv",
                f"{out}_space-M_desc-preproc_bold.nii.gz", f"{out}_space-M_desc-brain_mask.nii.gz",
                f"{out}_desc-confounds_timeseries.tsv",
                f"derivatives/prep/{bids.DESCRIPTION}")  # fmt: skip
    found = {s.session_id: {p.name for p in s.companions} for s in bids.sessions(root)}
    stem = "sub-01_ses-a_task-x"
    assert found == {
        stem: {f"{stem}_events.tsv", f"{stem}_desc-confounds_timeseries.tsv"},
        f"{stem}_space-M_desc-preproc": {
            f"{stem}_events.tsv", f"{stem}_desc-confounds_timeseries.tsv",
            f"{stem}_space-M_desc-brain_mask.nii.gz",
        },
    }  # fmt: skip


def test_a_closer_sidecar_overrules_a_wider_one(tree):
    root = tree(f"{FUNC}_bold.nii.gz")
    (root / "task-x_bold.json").write_text('{"RepetitionTime": 1.0, "TaskName": "x"}')
    (root / f"{FUNC}_bold.json").write_text('{"RepetitionTime": 2.0}')
    session = bids.session_files(root / f"{FUNC}_bold.nii.gz", "bold")
    found = bids.sidecar(session.companions, session.recordings[0])
    assert found == {"RepetitionTime": 2.0, "TaskName": "x"}


def test_a_link_out_of_the_tree_is_refused(tree, tmp_path):
    root = tree(f"{FUNC}_bold.nii.gz")
    secret = tmp_path / "secret.tsv"
    secret.write_text("onset\tduration\n")
    (root / f"{FUNC}_events.tsv").symlink_to(secret)
    with pytest.raises(ReaderError, match=r"events\.tsv: leads to .*secret.*outside"):
        bids.sessions(root)


def test_a_manifest_path_out_of_its_folder_is_refused(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "x.nwb").write_bytes(b"1")
    (home / "s.yaml").write_text("title: T\nlicence: C\nreader: nwb\nnodes: []\n")
    row = f"session_id\tsubject\tpath\tbytes\tsha256\ns\tm\t../x.nwb\t1\t{'a' * 64}\n"
    (home / "s.tsv").write_text(row)
    manifest = read_manifest(home / "s.yaml")
    with pytest.raises(ManifestError, match=r"\.\./x\.nwb: leads to .*outside"):
        fetch(manifest.rows[0], manifest, tmp_path / "cache")


def test_two_files_that_say_the_same_are_refused(tmp_path):
    files = [tmp_path / f"sub-01_task-x_desc-{d}_events.tsv" for d in "ab"]
    with pytest.raises(ReaderError, match="2 events files that describe it equally"):
        bids.best(files, tmp_path / "sub-01_task-x_bold.nii.gz", "events", ".tsv")


def test_events_keep_what_the_table_says(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_bytes(
        "\ufeffonset\tduration\ttrial_type\tpower\n1.5\tn/a\tµ\t3\n2\t0\tn/a\tn/a\n".encode()
    )
    path.with_suffix(".json").write_text(json.dumps({"power": {"Units": "mW"}}))
    found = sidecars.events(path, "1")
    assert found["start_time"].values.tolist() == [1.5, 2.0]
    assert str(found["stop_time"].values.tolist()) == "[nan, 2.0]"
    assert found["trial_type"].values.tolist() == ["µ", ""]
    assert found["power"].attrs["units"] == "mW"


@pytest.mark.parametrize(("text", "says"), [
    ("onset\n1\n", "expected onset, duration"),
    ("onset\tduration\n1\t-2\n", "line 2: duration: found -2 s"),
    ("onset\tduration\nx\t2\n", "line 2: onset: found 'x'"),
    ("onset\tduration\n1\tinf\n", "line 2: duration: found 'inf'"),
    ("onset\tduration\n1\t2\t3\t4\n", "not a table|expected"),
    ("", "not a table"),
])  # fmt: skip
def test_bad_events_are_refused(tmp_path, text, says):
    path = tmp_path / "e.tsv"
    path.write_text(text)
    with pytest.raises(ReaderError, match=says):
        sidecars.events(path, "1")


def test_true_offsets_come_from_scans(tmp_path):
    recordings = [tmp_path / f"sub-01_task-x_run-{n}_bold.nii.gz" for n in (1, 2)]
    scans = tmp_path / "sub-01_scans.tsv"
    rows = "filename\tacq_time\nfunc/{}\t2020-01-01T00:00:00\nfunc/{}\t{}\n"
    names = [r.name for r in recordings]
    scans.write_text(rows.format(*names, "2020-01-01T00:10:00"))
    assert runs.starts([scans], recordings) == [0.0, 600.0]
    scans.write_text(rows.format(*names, "n/a"))
    assert runs.starts([scans], recordings) == [None, None]


def test_an_unreadable_folder_says_so(tmp_path):
    with pytest.raises(ManifestError, match="found no folder"):
        write_manifests(tmp_path / "none", tmp_path)


def test_rows_of_a_session_come_side_by_side(tmp_path):
    from neuropipe.io.fetch import Receipt, together

    cache = tmp_path / "cache"
    got = []
    for name in ("a.vhdr", "a.eeg"):
        file = cache / name[0] / name[2:] / name
        file.parent.mkdir(parents=True)
        file.write_text(name)
        got.append(Receipt(file, "", "", ""))
    files = together(got, cache)
    assert len({f.parent for f in files}) == 1
    assert [f.read_text() for f in files] == ["a.vhdr", "a.eeg"]
    assert Row(session_id="s", subject="m", path="x").bytes is None


@pytest.mark.parametrize("rows", [slice(0, 30), slice(3, 11), slice(9, 10), slice(29, 30)])
def test_joined_runs_read_only_the_rows_asked_for(rows):
    values = np.arange(60.0).reshape(30, 2)
    seen = []

    class Rows:
        shape, dtype, ndim = (10, 2), values.dtype, 2

        def __init__(self, first):
            self.first = first

        def __getitem__(self, index):
            part = values[self.first : self.first + 10][index]
            seen.append(len(part))
            return part

    parts = [da.from_array(Rows(k), chunks=(10, 2), asarray=False) for k in (0, 10, 20)]
    seen.clear()
    joined = runs.Joined(parts)
    np.testing.assert_array_equal(joined[rows], values[rows])
    assert sum(seen) <= 10 * len(range(rows.start // 10, -(-rows.stop // 10)))
    np.testing.assert_array_equal(joined.lazy().compute(), values)
