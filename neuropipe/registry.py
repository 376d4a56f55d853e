"""Look-up by name: registries map a name to ``module:object``, imported when it is used."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from typing import Any

from neuropipe.errors import ConfigError


def hint(name: str, known: Iterable[str]) -> str:
    """Return what to say after an unknown name: the nearest known one, and all of them."""
    known = list(map(str, known))
    near = get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"{meant}; known are {', '.join(known)}"


def entry(name: str, registry: Mapping[str, str], what: str) -> tuple[str, str]:
    """Return module and attribute of a name.

    Parameters
    ----------
    name : str
        As the user wrote it.
    registry : mapping of name to ``module:attribute``
        What there is.
    what : str
        Kind of thing, with its place in front, for the error: ``"figure"``.

    Raises
    ------
    ConfigError
        For an unknown name, with the nearest known one and all of them.
    """
    if name not in registry:
        place, _, kind = what.rpartition(": ")
        raise ConfigError(f"{place + ': ' if place else ''}unknown {kind} {name!r}"
                          f"{hint(name, registry)}")  # fmt: skip
    module, _, attribute = registry[name].partition(":")
    return module, attribute


def resolve(name: str, registry: Mapping[str, str], what: str) -> Any:
    """Import and return what a registry names; see `entry`."""
    module, attribute = entry(name, registry, what)
    return getattr(import_module(module), attribute)


def suiting(
    asked: Sequence[str],
    model: str,
    registry: Mapping[str, str],
    models: Mapping[str, Sequence[str]],
    what: str,
) -> list[str]:
    """Return the names that are asked for; of ``all``, those that suit a model.

    Parameters
    ----------
    asked : sequence of str or ``"all"``
        As the user wrote them.
    model : str
        Name of the run's model.
    registry : mapping of name to ``module:attribute``
        What there is.
    models : mapping of name to models
        What suits these models only; a name that is not in it suits every model.
    what : str
        As of `entry`.

    Raises
    ------
    ConfigError
        For an unknown name, and for one that does not suit the model.
    """
    fitting = [name for name in registry if model in models.get(name, (model,))]
    if asked == "all":
        return fitting
    for name in asked:
        entry(name, registry, what)
        if name not in fitting:
            raise ConfigError(
                f"{what} {name!r} is of {', '.join(models[name])} and does not suit {model}; "
                f"these do: {', '.join(fitting)}"
            )
    return list(asked)


def source_of(name: str, registry: Mapping[str, str], what: str) -> ast.FunctionDef:
    """Return the syntax tree of a registered function, without importing it; see `entry`."""
    module, attribute = entry(name, registry, what)
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ConfigError(f"{what} {name!r}: its module {module} is missing")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    [found] = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == attribute]
    return found


def caption(name: str, registry: Mapping[str, str], what: str) -> str:
    """Return the first paragraph of a registered function's docstring, on one line."""
    text = ast.get_docstring(source_of(name, registry, what)) or ""
    return " ".join(cleandoc(text).split("\n\n")[0].split())
