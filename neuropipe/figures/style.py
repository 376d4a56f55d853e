"""The look that all figures share: colours, type sizes, labels with units, and saving."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from functools import wraps
from html import unescape
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, NullFormatter

from neuropipe.errors import DataError

P = ParamSpec("P")
WIDTH_IN = 7.2  # two columns of a journal page
GREY = "#8a8a8a"
PALE = "#ececec"
CELLS_PX = 400  # least side of a drawn matrix
# Okabe & Ito: told apart by readers with any of the common colour-vision deficiencies.
STATES = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)
INHIBITORY, NONE, EXCITATORY = "#2166AC", "#8a8a8a", "#B2182B"
CATEGORIES = {"inhibitory": INHIBITORY, "none": NONE, "excitatory": EXCITATORY}
DIVERGING = "RdBu_r"  # its ends are INHIBITORY and EXCITATORY
SEQUENTIAL = "cividis"

NOTICE = re.compile(r"<dc:description>(.*?)</dc:description>", re.DOTALL)

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.2,
    "hatch.linewidth": 0.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 200,  # of what is drawn as pixels
    "svg.fonttype": "path",  # glyphs as outlines: no font is needed where the figure is read
    "svg.hashsalt": "neuropipe",  # same figure, same bytes
}


def drawn(plot: Callable[P, Figure]) -> Callable[P, Figure]:
    """Give a plot the shared look, and turn its `DataError` into a figure that says why."""

    @wraps(plot)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_RC):
            try:
                return plot(*args, **kwargs)
            except DataError as reason:
                return _notice(str(reason))

    return draw


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Return an empty figure that belongs to no window and no global state."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def _notice(sentence: str) -> Figure:
    figure = new_figure(0.8)
    figure.text(0.5, 0.5, sentence, ha="center", va="center", wrap=True, color="#444444")
    figure.set_label(sentence)
    return figure


def notice_of(svg: str) -> str:
    """Return why a saved figure shows nothing, from its text; empty where it shows something."""
    found = NOTICE.search(svg)
    return unescape(found[1]).strip() if found else ""


def state_colors(n_states: int) -> list[str]:
    """Return a colour a state: Okabe-Ito up to eight, beyond that an even walk through viridis."""
    if n_states <= len(STATES):
        return list(STATES[:n_states])
    return [to_hex(c) for c in colormaps["viridis"](np.linspace(0, 1, n_states))]


def with_units(quantity: str, units: str) -> str:
    """Return an axis label such as ``rate (Hz)``; a pure number is called dimensionless."""
    return f"{quantity} ({'dimensionless' if units == '1' else units})"


def heat(axes: Axes, matrix: np.ndarray, **options: Any) -> AxesImage:
    """Draw a matrix as an image of sharp cells, row 0 on top; options go to `imshow`.

    Cells are repeated to some pixels each, because viewers of SVG smooth the pixels of an image.
    """
    matrix = np.atleast_2d(matrix)
    n_rows, n_columns = matrix.shape
    pixels = matrix
    for axis, size in enumerate(matrix.shape):
        pixels = pixels.repeat(-(-CELLS_PX // size), axis=axis)
    options = {"extent": (-0.5, n_columns - 0.5, n_rows - 0.5, -0.5), **options}
    return axes.imshow(pixels, interpolation="none", **options)


def panel_grid(n_panels: int, n_abreast: int) -> tuple[int, int]:
    """Return lines and columns that hold the panels evenly, at most `n_abreast` in a line."""
    lines = -(-n_panels // n_abreast)
    return lines, -(-n_panels // lines)


def name_ticks(axes: Axes, which: str, names: Sequence | np.ndarray, n_most: int = 10) -> None:
    """Write names at the integer positions of an axis, thinned evenly to at most `n_most`."""
    step = -(-len(names) // n_most)
    positions = list(range(0, len(names), step))
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(positions, [str(names[i]) for i in positions])


def whole_decades(axes: Axes, values: np.ndarray) -> None:
    """Make the y axis logarithmic and let it span whole decades, so that it has labels."""
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
        axes.set_yscale("log")
        axes.set_ylim(10.0**low / 1.2, 10.0 ** max(high, low + 1) * 1.2)
        axes.yaxis.set_minor_formatter(NullFormatter())


def whole_ticks(axes: Axes, which: str = "x", n_most: int = 8) -> None:
    """Put ticks at whole numbers only."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(n_most, integer=True))


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as SVG: the same figure gives the same bytes, and never half a file.

    Parameters
    ----------
    figure : Figure
        From one of `FIGURES`.
    path : path
        Target, whose folder exists.
    """
    path = Path(path)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".svg")
    os.close(handle)
    try:
        with matplotlib.rc_context(_RC):
            told = {"Description": str(figure.get_label())} if figure.get_label() else {}
            bare: dict[str, str | None] = {"Date": None, "Creator": None}
            figure.savefig(scratch, format="svg", metadata=bare | told)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
