"""Readers and converters of foreign formats, looked up by name and imported when used."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

from neuropipe.errors import ConfigError

READERS: dict[str, str] = {
    "nwb": "neuropipe.io.nwb:read",
}


CONVERTERS: dict[str, str] = {
    "axona": "neuropipe.io.axona:convert",
}


def reader(name: str) -> Callable:
    """Return the `read(path, **options) -> Recording` of a format.

    Raises
    ------
    ConfigError
        No such format; the message lists the known ones.
    """
    return _resolve(name, READERS, "reader")


def converter(name: str) -> Callable:
    """Return the `convert(folder, path, **options)` of a foreign format.

    Raises
    ------
    ConfigError
        No such format; the message lists the known ones.
    """
    return _resolve(name, CONVERTERS, "converter")


def _resolve(name: str, registry: dict[str, str], what: str) -> Callable:
    if name not in registry:
        near = get_close_matches(name, registry, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{what}: unknown format {name!r}, expected {', '.join(registry)}{hint}")
    module, _, attribute = registry[name].partition(":")
    return getattr(import_module(module), attribute)
