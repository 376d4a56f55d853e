"""Readers of foreign formats, looked up by name: each turns one file into a Recording."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

from neuropipe.errors import ConfigError

READERS: dict[str, str] = {
    "nwb": "neuropipe.io.nwb:read",
}


def reader(name: str) -> Callable:
    """Return the `read(path, **options) -> Recording` of a format.

    Raises
    ------
    ConfigError
        No such format; the message lists the known ones.
    """
    if name not in READERS:
        near = get_close_matches(name, READERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"reader: unknown format {name!r}, expected {', '.join(READERS)}{hint}")
    module, _, attribute = READERS[name].partition(":")
    return getattr(import_module(module), attribute)
