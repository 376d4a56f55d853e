"""Stores at an address: s3://, gs://, https:// and whatever else fsspec reaches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from neuropipe.errors import ReaderError
from neuropipe.registry import hint

if TYPE_CHECKING:
    from zarr.storage import FsspecStore


def is_address(path: str | Path) -> bool:
    """Return whether a path is an address such as ``s3://bucket/session.zarr``."""
    return isinstance(path, str) and "://" in path


def remote_store(address: str, options: Mapping[str, Any] | None = None) -> FsspecStore:
    """Return a Zarr store at an address, read only.

    Parameters
    ----------
    address : with its scheme in front
    options : of the file system, such as ``{"anon": True}`` for a public bucket

    Raises
    ------
    ReaderError
        Unknown scheme, or the package for it is not installed.
    """
    import fsspec
    from fsspec.registry import known_implementations
    from zarr.storage import FsspecStore

    scheme = urlsplit(address).scheme
    try:
        fsspec.get_filesystem_class(scheme)
        return FsspecStore.from_url(address, storage_options=dict(options or {}), read_only=True)
    except ImportError as error:
        raise ReaderError(
            f"store {address}: {error}; expected a package for {scheme}:// (s3fs for s3, gcsfs "
            "for gs, aiohttp and requests for https): pip install it"
        ) from error
    except ValueError as error:
        known = sorted(known_implementations)
        raise ReaderError(
            f"store {address}: unknown scheme {scheme!r}{hint(scheme, known)}"
        ) from error
