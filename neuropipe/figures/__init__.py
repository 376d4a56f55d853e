"""Figures of a run: a file holds one `plot(results) -> Figure`, whose docstring is the caption."""

from __future__ import annotations

import ast
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

from neuropipe.errors import ConfigError

FIGURES: dict[str, str] = {
    "state_timeline": "neuropipe.figures.state_timeline:plot",
    "interaction_matrices": "neuropipe.figures.interaction_matrices:plot",
    "onehot_graph": "neuropipe.figures.onehot_graph:plot",
    "history_filters": "neuropipe.figures.history_filters:plot",
    "convergence": "neuropipe.figures.convergence:plot",
    "score_comparison": "neuropipe.figures.score_comparison:plot",
    "state_properties": "neuropipe.figures.state_properties:plot",
    "state_number": "neuropipe.figures.state_number:plot",
    "recording_overview": "neuropipe.figures.recording_overview:plot",
}


def resolve(name: str) -> Callable:
    """Return the `plot(results) -> Figure` of a figure.

    Raises
    ------
    ConfigError
        No such figure; the message lists the known ones.
    """
    module, _, attribute = _entry(name).partition(":")
    return getattr(import_module(module), attribute)


def caption(name: str) -> str:
    """Return the first paragraph of a figure's docstring, on one line, without importing it.

    Raises
    ------
    ConfigError
        No such figure; the message lists the known ones.
    """
    module, _, attribute = _entry(name).partition(":")
    source = Path(__file__).with_name(module.rpartition(".")[2] + ".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    [function] = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == attribute]
    return " ".join(cleandoc(ast.get_docstring(function) or "").split("\n\n")[0].split())


def _entry(name: str) -> str:
    if name not in FIGURES:
        near = get_close_matches(name, FIGURES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"figure: unknown name {name!r}, expected {', '.join(FIGURES)}{hint}")
    return FIGURES[name]
