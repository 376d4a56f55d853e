"""Tables of a run: a file holds one `table(results) -> DataFrame`; its docstring is the caption."""

from __future__ import annotations

import ast
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

from neuropipe.errors import ConfigError

TABLES: dict[str, str] = {
    "scores": "neuropipe.tables.scores:table",
    "states": "neuropipe.tables.states:table",
    "edges": "neuropipe.tables.edges:table",
    "recordings": "neuropipe.tables.recordings:table",
    "recovery": "neuropipe.tables.recovery:table",
}


def resolve(name: str) -> Callable:
    """Return the `table(results) -> DataFrame` of a table.

    Raises
    ------
    ConfigError
        No such table; the message lists the known ones.
    """
    module, _, attribute = _entry(name).partition(":")
    return getattr(import_module(module), attribute)


def caption(name: str) -> str:
    """Return the first paragraph of a table's docstring, on one line, without importing it.

    Raises
    ------
    ConfigError
        No such table; the message lists the known ones.
    """
    module, _, attribute = _entry(name).partition(":")
    source = Path(__file__).with_name(module.rpartition(".")[2] + ".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    [function] = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == attribute]
    return " ".join(cleandoc(ast.get_docstring(function) or "").split("\n\n")[0].split())


def _entry(name: str) -> str:
    if name not in TABLES:
        near = get_close_matches(name, TABLES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"table: unknown name {name!r}, expected {', '.join(TABLES)}{hint}")
    return TABLES[name]
