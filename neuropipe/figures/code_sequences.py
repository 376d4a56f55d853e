"""Which code follows which around the events that are decoded."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import GREY, drawn, heat, new_figure
from neuropipe.results import RunResults
from neuropipe.runtime import generator

MOST_CLASSES = 6
MOST_TRIALS = 20  # of a class
N_COLORS = 18
N_NULL = 50


@drawn
def plot(results: RunResults) -> Figure:
    """Codes around the held-out trials of the first session that has them. Left: a row a trial,
    ordered by label, up to six labels; a colour a code, for the eighteen most used ones, all others
    grey; white where a token lies across an edge. Time is from the start of the trial; the grid of
    tokens is that of the windows and not of the trials, so a trial's tokens begin up to one token
    late. Right: how often trials of one label share their most frequent code at a time, mean over
    labels; the band holds 95% of the same after labels were dealt out anew.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``code (window, token)`` at ``token_time (window, token)``, and trials
        with ``label (trial)`` at ``time (trial)``.
    """
    found = next(
        (e for _, e in sorted(results.estimates.items(), key=lambda x: x[0][::-1])
         if "code" in e and e.sizes.get("window", 0) and (e["label"].values != "").any()),
        None,
    )  # fmt: skip
    if found is None:
        raise DataError("This run's model wrote no codes of held-out windows with trials.")
    time, code, label = cut(found, _length_s(results))
    names = list(dict.fromkeys(sorted(label)))
    shown = np.concatenate([np.flatnonzero(label == n)[:MOST_TRIALS] for n in names[:MOST_CLASSES]])
    figure = new_figure(3.6)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    order = np.argsort(-np.bincount(code[code >= 0]), kind="stable")[:N_COLORS]
    rank = {int(c): i for i, c in enumerate(order)}
    picture = np.vectorize(
        lambda c: np.nan if c < 0 else rank.get(int(c), N_COLORS), otypes=[float]
    )
    hues = np.delete(np.arange(20), [14, 15])  # which are greys
    colors = ListedColormap([*colormaps["tab20"](hues), GREY])
    step = float(time[1] - time[0]) if len(time) > 1 else 1.0
    heat(left, picture(code[shown]), cmap=colors, vmin=-0.5, vmax=N_COLORS + 0.5, aspect="auto",
         extent=(time[0] - step / 2, time[-1] + step / 2, len(shown) - 0.5, -0.5))  # fmt: skip
    edges = np.flatnonzero(label[shown][1:] != label[shown][:-1]) + 0.5
    left.hlines(edges, *left.get_xlim(), color="white", linewidth=1.5)
    middle = [np.flatnonzero(label[shown] == n).mean() for n in names[:MOST_CLASSES]]
    left.set_yticks(middle, names[:MOST_CLASSES])
    left.set(xlabel="time from start of trial (s)", title="codes by trial")
    agreement, null = shared(code, label, seed=results.seed)
    right.fill_between(time, *np.quantile(null, [0.025, 0.975], axis=0), color="#dddddd",
                       label="labels dealt out anew", linewidth=0)  # fmt: skip
    right.plot(time, agreement, color="black", label="trials of a label")
    right.set(xlabel="time from start of trial (s)",
              ylabel="share with the most frequent code\n(dimensionless)", ylim=(0, 1.02),
              title="agreement")  # fmt: skip
    right.legend(loc="best")
    return figure


def _length_s(results: RunResults) -> float:
    """Return the length of the shortest trial of the run's recordings."""
    lengths = [
        float((r["trials"]["stop_time"] - r["trials"]["start_time"]).min())
        for r in results.recordings.values()
        if "trials" in r.children
    ]
    if not lengths:
        raise DataError("The recordings of this run have no trials to lay the codes along.")
    return min(lengths)


def cut(found: xr.Dataset, length_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times from the trial's start (token,), codes (trial, token), -1 for none, and labels.

    Trials without a label or without any code are left out.
    """
    when = found["token_time"].values.ravel()
    what = found["code"].values.ravel()
    step = float(np.diff(found["token_time"].values, axis=1).mean()) if (
        found.sizes["token"] > 1
    ) else length_s  # fmt: skip
    n = max(1, int(length_s / step + 1e-6))
    start, label = found["time"].values, found["label"].values.astype(str)
    code = np.full((len(start), n), -1)
    for trial, t in enumerate(start):
        place = np.floor((when - t) / step).astype(int)
        inside = (place >= 0) & (place < n) & (when >= t)
        code[trial, place[inside]] = what[inside]
    keep = (label != "") & (code >= 0).any(1)
    if not keep.any():
        raise DataError("No held-out trial with a label lies in a window that has codes.")
    return (np.arange(n) + 0.5) * step, code[keep], label[keep]


def shared(code: np.ndarray, label: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how often trials of a label share a code (token,), and with labels dealt out anew."""

    def mean(labels: np.ndarray) -> np.ndarray:
        out = []
        for name in np.unique(labels):
            own = code[labels == name]
            most = [np.bincount(c[c >= 0]).max() / (c >= 0).sum() if (c >= 0).any() else np.nan
                    for c in own.T]  # fmt: skip
            out.append(most)
        known = np.isfinite(np.array(out))
        return np.where(known, out, 0).sum(0) / np.maximum(known.sum(0), 1)

    rng = generator(seed, "codes")
    return mean(label), np.array([mean(rng.permutation(label)) for _ in range(N_NULL)])
