"""Manifests: a pair of files that is read strictly, and written for a user's own folder."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from neuropipe.errors import ManifestError
from neuropipe.io.manifest import Manifest, Row, read_manifest, verify
from neuropipe.io.survey import write_manifests

PAGE = "title: T\nlicence: CC0\nreader: nwb\nnodes: [spikes, units]\n"
SHA = "a" * 64
HEADER = "session_id\tsubject\tpath\tbytes\tsha256\n"
LINE = f"s1\tm1\tfile.nwb\t10\t{SHA}\n"


@pytest.fixture
def pair(tmp_path):
    """Return a function that writes a pair and gives its page."""

    def write(page: str = PAGE, table: str | None = HEADER + LINE) -> Path:
        (tmp_path / "set.yaml").write_text(page, encoding="utf-8")
        if table is not None:
            (tmp_path / "set.tsv").write_text(table, encoding="utf-8")
        return tmp_path / "set.yaml"

    return write


def test_a_pair_is_read(pair, tmp_path):
    more = "terms: be kind\noptions: {sort_spikes: true}\nconvert: axona\n"
    manifest = read_manifest(pair(PAGE + more))
    assert manifest.dataset == "set"
    assert manifest.folder == tmp_path
    assert manifest.options == {"sort_spikes": True}
    assert manifest.rows == (
        Row(session_id="s1", subject="m1", path="file.nwb", bytes=10, sha256=SHA),
    )
    with pytest.raises(Exception, match="frozen"):
        manifest.title = "other"


def test_files_of_one_session_share_its_name(pair):
    table = HEADER + LINE + f"s1\tm1\tother.nwb\t3\t{SHA}\n" + f"s2\tm1\tthird.nwb\t3\t{SHA}\n"
    sessions = read_manifest(pair(table=table)).sessions()
    assert [len(rows) for rows in sessions.values()] == [2, 1]


def test_simulated_rows_need_no_checksum(pair):
    rows = read_manifest(pair(table=HEADER + "s1\tm1\tsimulate:hmm_glm?seed=1\t\t\n")).rows
    assert rows[0].simulated
    assert rows[0].bytes is None


@pytest.mark.parametrize(("page", "says"), [
    (PAGE + "licens: MIT\n", "unknown key 'licens'; did you mean 'licence'"),
    (PAGE.replace("reader: nwb", "reader: nwp"), "reader: found 'nwp', expected nwb"),
    (PAGE + "convert: axone\n", "convert: found 'axone', expected axona; did you mean 'axona'"),
    (PAGE.replace("title: T\n", ""), "missing key 'title'"),
    (PAGE.replace("[spikes, units]", "7"), "nodes: found 7"),
    ("- a\n- b\n", "found list, expected keys and values"),
    ("a: [", "not YAML"),
    ("title: !!python/object/apply:os.system ['true']\n", "not YAML"),
])  # fmt: skip
def test_a_bad_page_is_refused(pair, page, says):
    with pytest.raises(ManifestError, match=says):
        read_manifest(pair(page))


@pytest.mark.parametrize(("table", "says"), [
    (None, "a manifest is a pair"),
    (HEADER, "found no session"),
    ("", "no column session_id"),
    (HEADER.replace("subject", "subjcet") + LINE, "unknown column 'subjcet'.*'subject'"),
    (HEADER.replace("\tsha256", "") + "s\tm\tf\t1\n", "no column sha256"),
    (HEADER + "s1\tm1\tfile.nwb\t10\n", "line 2: expected 5 cells"),
    (HEADER + LINE.strip() + "\textra\n", "line 2: expected 5 cells"),
    (HEADER + LINE.replace("10", "ten"), "line 2: bytes: found 'ten'"),
    (HEADER + LINE.replace("10", "-1"), "line 2: bytes: found '-1'"),
    (HEADER + LINE.replace(SHA, "abc"), "expected the file's size and 64 hex digits"),
    (HEADER + LINE.replace("10", ""), "expected the file's size and 64 hex digits"),
    (HEADER + LINE.replace("s1", "../s1"), "session_id: found '../s1'"),
    (HEADER + LINE.replace("file.nwb", ""), "path: found nothing"),
    (HEADER + LINE + LINE, "names 'file.nwb' twice"),
    (HEADER + LINE + LINE.replace("m1", "m2").replace("file", "b"), "subjects 'm1' and 'm2'"),
])  # fmt: skip
def test_a_bad_table_is_refused(pair, table, says):
    with pytest.raises(ManifestError, match=says):
        read_manifest(pair(table=table))


def test_an_unknown_manifest_names_the_nearest(pair):
    page = pair()
    with pytest.raises(ManifestError, match="did you mean 'set'"):
        read_manifest(page.with_name("sett.yaml"))


def test_verify_compares_size_and_content(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"0123456789")
    good = hashlib.sha256(b"0123456789").hexdigest()
    row = Row(session_id="s", subject="m", path="f", bytes=10, sha256=good)
    verify(file, row)
    with pytest.raises(ManifestError, match="found 10 bytes, expected 11"):
        verify(file, row.model_copy(update={"bytes": 11}))
    with pytest.raises(ManifestError, match=f"found sha256 {good}, expected {SHA}"):
        verify(file, row.model_copy(update={"sha256": SHA}))
    with pytest.raises(ManifestError, match="found no file"):
        verify(tmp_path / "g", row)


def unit(file):
    """Fill a file with one unit."""
    file.add_unit(spike_times=[0.1, 0.2])


def test_a_folder_becomes_a_manifest(make_nwb, tmp_path, caplog):
    make_nwb(unit, "a.nwb", session_id="one")
    (tmp_path / "deep").mkdir()
    make_nwb(
        lambda file: file.add_trial(start_time=0.0, stop_time=1.0), "deep/b.nwb", session_id="two"
    )
    (tmp_path / "torn.nwb").write_bytes(b"torn")
    (tmp_path / ".half.partial.nwb").write_bytes(b"half")
    seen = []
    [page] = write_manifests(tmp_path, tmp_path, "mine", progress=lambda *step: seen.append(step))
    manifest = read_manifest(page)
    assert isinstance(manifest, Manifest)
    assert [row.session_id for row in manifest.rows] == ["one", "two"]
    assert [row.path for row in manifest.rows] == ["a.nwb", "deep/b.nwb"]
    assert manifest.nodes == ("spikes", "trials", "units")
    assert "torn.nwb" in caplog.text
    assert seen == [(0, 3, "a.nwb"), (1, 3, "b.nwb"), (2, 3, "torn.nwb")]
    for row in manifest.rows:
        verify(manifest.folder / row.path, row)
    with pytest.raises(ManifestError, match="a manifest is there already"):
        write_manifests(tmp_path, tmp_path, "mine")


def test_sessions_that_share_a_name_are_told_apart(make_nwb, tmp_path):
    for name in ("x", "y", "z"):
        make_nwb(unit, f"{name}.nwb", session_id="1")
    [page] = write_manifests(tmp_path, tmp_path / "out", "mine")
    rows = read_manifest(page).rows
    assert [row.session_id for row in rows] == ["x", "y", "z"]
    assert all(Path(row.path).is_absolute() for row in rows)


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"found 0 recordings, none readable"):
        write_manifests(tmp_path, tmp_path)


def test_reading_a_manifest_imports_nothing_heavy(pair):
    code = (
        "import sys; from neuropipe.io.manifest import read_manifest;"
        f"read_manifest({str(pair())!r});"
        "print([m for m in ('xarray', 'pynwb', 'torch', 'dask', 'numpy') if m in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


def test_every_manifest_of_the_repository_is_sound():
    folder = Path(__file__).parents[2] / "data_manifests"
    pages = sorted(folder.glob("*.yaml"))
    assert pages
    for page in pages:
        manifest = read_manifest(page)
        assert manifest.licence
        assert all(not Path(row.path).is_absolute() for row in manifest.rows)


@pytest.mark.data
def test_the_human_recording_becomes_a_manifest(human_mtl, tmp_path):
    [page] = write_manifests(human_mtl.parent, tmp_path, "human_mtl")
    manifest = read_manifest(page)
    assert len(manifest.rows) == 1
    assert manifest.rows[0].subject == "4"
    assert "intervals/recognition_table" in manifest.nodes
