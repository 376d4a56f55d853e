"""Readers and converters of foreign formats, looked up by name and imported when used."""

from __future__ import annotations

from collections.abc import Callable

from neuropipe.registry import resolve

READERS: dict[str, str] = {
    "nwb": "neuropipe.io.nwb:read",
    "ieeg": "neuropipe.io.ieeg:read",
    "table": "neuropipe.io.table:read",
    "bold": "neuropipe.io.bold:read",
}
CONVERTERS: dict[str, str] = {
    "axona": "neuropipe.io.axona:convert",
}


def reader(name: str) -> Callable:
    """Return the `read(path, **options) -> Recording` of a format; unknown ones list the known."""
    return resolve(name, READERS, "reader: format")


def converter(name: str) -> Callable:
    """Return the `convert(folder, path, **options)` of a foreign format."""
    return resolve(name, CONVERTERS, "converter: format")
