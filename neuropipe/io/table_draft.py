"""A first mapping for files of plain arrays: guessed from shapes and names, to be checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from neuropipe.errors import ManifestError, NeuropipeError
from neuropipe.io.table_files import SUFFIXES, open_arrays

NEURAL = re.compile(r"neur|calc|fluo|trace|roi|cell|df_?f|denoised|deconv", re.IGNORECASE)
RATE = re.compile(r"fs|rate|hz|freq|sr$", re.IGNORECASE)
RATES_HZ = (0.1, 1e6)
FEWEST_SAMPLES = 50
SAME_START = 3  # letters by which a rate is named like its array
TEXT = (".txt", ".tsv", ".csv")  # tables without units or rates: nothing to guess from
GUESSED = tuple(suffix for suffix in SUFFIXES if suffix not in TEXT)


@dataclass(frozen=True)
class Guess:
    """Mapping of one file's arrays, and what was found there, name by name."""

    file: Path
    nodes: dict[str, dict[str, Any]]
    found: tuple[str, ...]


def guess_mapping(file: Path) -> Guess:
    """Guess which arrays of a MATLAB or HDF5 file are traces, and what their rates are.

    A two-dimensional array of numbers whose longer side is time is a node of signals: calcium
    where its name says so or where it is the only one, else behaviour. Its rate is a single
    number whose name speaks of a rate; of several the one named like the array, else the one by
    which it lasts as long as the arrays that have theirs.

    Parameters
    ----------
    file : ends in one of `SUFFIXES`

    Raises
    ------
    ReaderError
        The file is damaged.
    """
    arrays = open_arrays(file)
    shapes: dict[str, tuple[int, ...]] = {}
    scalars: dict[str, float] = {}
    found = []
    for name in arrays.names():
        value = _numbers(arrays.get(name))
        if value is None:
            found.append(f"{name}: not an array of numbers")
            continue
        shape = tuple(value.shape)
        found.append(f"{name}: {' x '.join(map(str, shape)) or 'one number'}")
        if int(np.prod(shape)) == 1:
            scalars[name] = float(np.asarray(value[...]).reshape(-1)[0])
        elif len(shape) == 2 and min(shape) > 1 and max(shape) >= FEWEST_SAMPLES:
            shapes[name] = shape[::-1] if arrays.backward else shape
    rates = {n: v for n, v in scalars.items()
             if RATE.search(n) and RATES_HZ[0] <= v <= RATES_HZ[1]}  # fmt: skip
    neural = [n for n in shapes if NEURAL.search(n)] or (list(shapes) if len(shapes) == 1 else [])
    nodes: dict[str, dict[str, Any]] = {}
    if neural and rates:
        chosen = _rates_of(shapes, rates)
        for name, shape in shapes.items():
            nodes |= _node(name, shape, chosen[name], name in neural)
    return Guess(file, nodes, tuple(found))


def draft_page(folder: Path, title: str) -> str:
    """Return a manifest page for a folder of arrays, guessed from the first file that allows it.

    Raises
    ------
    ManifestError
        No file allows a guess: says what each holds, and what to do.
    """
    files = [p for p in sorted(folder.rglob("[!.]*")) if p.suffix.lower() in GUESSED]
    told = []
    for file in files:
        try:
            guess = guess_mapping(file)
        except NeuropipeError as error:
            told.append(str(error))
            continue
        if guess.nodes:
            return _page(guess, title)
        told.append(f"{file.name} holds {'; '.join(guess.found[:12]) or 'no named array'}")
    raise ManifestError(
        f"{folder}: found no recording, and no file of arrays that speaks for itself: "
        f"{'. '.join(told) or 'no array at all'}. Write the page of the manifest by hand "
        "(docs/own_data.md), or turn the files into NWB first, as "
        "docs/examples/rat_wmaze_to_nwb.py does"
    )


def _numbers(value: Any) -> Any:
    """Return what holds numbers and has a shape, else None."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return value if kind in "fiu" and kind else None


def _rates_of(shapes: dict[str, tuple[int, ...]], rates: dict[str, float]) -> dict[str, str]:
    """Return the rate of each array: the one named like it, else the one that lasts as long."""
    chosen = {}
    for name in shapes:
        near = max(rates, key=lambda rate: _same_start(rate, name))
        if _same_start(near, name) >= SAME_START or len(rates) == 1:
            chosen[name] = near
    lasting = [max(shapes[name]) / rates[rate] for name, rate in chosen.items()]
    for name in shapes.keys() - chosen.keys():
        free = [r for r in rates if r not in chosen.values()] or list(rates)
        chosen[name] = min(free, key=lambda r: abs(max(shapes[name]) / rates[r]
                                                   - (lasting[0] if lasting else 0.0)))  # fmt: skip
    return chosen


def _same_start(one: str, other: str) -> int:
    """Return by how many letters two names begin alike."""
    pairs = zip(one.lower(), other.lower(), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _node(name: str, shape: tuple[int, ...], rate: str, neural: bool) -> dict[str, dict[str, Any]]:
    dim = "roi" if neural else "channel"
    plain = re.sub(r"\W+", "_", name).strip("_").lower()
    return {
        f"{'calcium' if neural else 'behavior'}/{plain}": {
            "variable": "fluorescence" if neural else plain,
            "array": name,
            "dims": [dim, "time"] if shape[1] >= shape[0] else ["time", dim],
            "units": "1",
            "rate": rate,
            "numbered": [dim],
        }
    }


def _page(guess: Guess, title: str) -> str:
    head = [
        f"# Guessed by `neuropipe init` from {guess.file.name}, whose arrays are:",
        *(f"#   {line}" for line in guess.found),
        "# Check every line: what is calcium, which side is time, whose rate is whose, units.",
    ]
    content = {
        "title": title,
        "licence": "not stated",
        "reader": "table",
        "nodes": list(guess.nodes),
        "options": {"nodes": guess.nodes},
        "source_note": "guessed from shapes and names of arrays",
    }
    return "\n".join(head) + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
