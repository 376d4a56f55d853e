"""Decoded behaviour beside what was recorded."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.held_out import held_out
from neuropipe.figures.style import GREY, STATES, drawn, new_figure, with_units
from neuropipe.results import RunResults

LONGEST_S = 60.0
MOST_CHANNELS = 6


@drawn
def plot(results: RunResults) -> Figure:
    """Behaviour of held-out time, recorded (grey) and decoded by the model from spikes: up to 60 s
    of the longest piece without a gap, and all windows as dots, with Pearson's r. What r chance
    gives is in the table of decoding. At most six channels. First session and fold.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``behavior (time, channel)``; `recordings` with node ``behavior``.
    """
    held = held_out(results, "behavior")
    decoded = held.estimate["behavior"].transpose("time", "channel")
    recording = results.recordings[held.session]
    if "behavior" not in recording.children:
        raise DataError("These recordings have no behaviour, so there is nothing to draw here.")
    node = recording["behavior"].to_dataset()
    names = [str(n) for n in decoded["channel"].values if str(n) in node][:MOST_CHANNELS]
    if not names:
        raise DataError("No decoded channel is in the recording, so there is nothing to draw here.")
    figure = new_figure(1.25 * len(names) + 0.5)
    panels = figure.subplots(len(names), 2, squeeze=False, width_ratios=[3.4, 1])
    part, window = held.span(LONGEST_S), held.windows()
    first = np.flatnonzero(np.diff(window, prepend=-1))
    size = np.diff([*first, len(window)])
    for (left, right), name in zip(panels, names, strict=True):
        own = node[name].sel(time=held.time)
        label, value = own.values.astype(float), decoded.sel(channel=name).values
        left.plot(held.time[part], label[part], color=GREY, linewidth=1.0, label="recorded")
        left.plot(held.time[part], value[part], color=STATES[0], linewidth=0.9, label="decoded")
        left.set_ylabel(with_units(name.replace("_", " "), str(own.attrs.get("units", "1"))))
        mean = np.add.reduceat(label, first) / size
        seen = np.isfinite(mean)
        right.scatter(mean[seen], value[first][seen], s=2, color=STATES[0], linewidths=0, alpha=0.5,
                      rasterized=True)  # fmt: skip
        if seen.sum() > 2 and np.ptp(mean[seen]) > 0 and np.ptp(value[first][seen]) > 0:
            right.set_title(f"r = {np.corrcoef(mean[seen], value[first][seen])[0, 1]:.2f}")
            low, high = np.nanmin(mean), np.nanmax(mean)
            right.plot([low, high], [low, high], color="#444444", linewidth=0.6)
        right.set_ylabel("decoded")
    panels[-1, 0].set_xlabel("time from session start (s)")
    panels[-1, 1].set_xlabel("recorded")
    low, high = panels[0, 0].get_ylim()
    panels[0, 0].set_ylim(low, high + 0.25 * (high - low))
    panels[0, 0].legend(ncols=2, loc="upper right")
    return figure
