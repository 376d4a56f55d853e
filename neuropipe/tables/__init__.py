"""Tables of a run: a file holds one `table(results) -> DataFrame`; its docstring is the caption."""

from __future__ import annotations

from collections.abc import Callable

from neuropipe import registry

TABLES: dict[str, str] = {
    "scores": "neuropipe.tables.scores:table",
    "states": "neuropipe.tables.states:table",
    "edges": "neuropipe.tables.edges:table",
    "recordings": "neuropipe.tables.recordings:table",
    "recovery": "neuropipe.tables.recovery:table",
}


def resolve(name: str) -> Callable:
    """Return the `table(results) -> DataFrame` of a table; an unknown name lists the known."""
    return registry.resolve(name, TABLES, "table")


def caption(name: str) -> str:
    """Return the first paragraph of a table's docstring, without importing it."""
    return registry.caption(name, TABLES, "table")
