"""The figure of one recording: panels for whatever it holds, the same bytes each time."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from planted_faults import PLANTED, clock, tree

from neuropipe.figures.quality_signals import LONGEST, _short
from neuropipe.figures.recording_quality import plot_quality
from neuropipe.figures.style import save
from neuropipe.quality import COLUMNS, measure
from neuropipe.quality.thresholds import Thresholds

PANELS = {"spikes": 5, "ieeg": 4, "bold": 6, "calcium": 4}  # with that of coverage


def checked(recording):
    return plot_quality(recording, measure(recording, Thresholds()))


@pytest.mark.parametrize("faults", [True, False])
@pytest.mark.parametrize("kind", PLANTED)
def test_panels_of_each_kind(kind, faults, tmp_path):
    figure = checked(PLANTED[kind](faults=faults))
    assert len(figure.axes) == PANELS[kind]
    save(figure, tmp_path / "a.svg")
    ElementTree.parse(tmp_path / "a.svg")
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert any("PASS" in t for t in titles) or faults
    for axes in figure.axes:
        if axes.get_label() != "<colorbar>":
            assert axes.get_xlabel() or axes.get_ylabel() or axes.get_title("left")


def test_same_bytes_again(tmp_path):
    for name in "ab":
        save(checked(PLANTED["ieeg"]()), tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_recording_of_everything_and_of_nothing():
    parts = {}
    for kind in PLANTED.values():
        for node in (recording := kind()).groups:
            if recording[node].variables:
                parts[node] = recording[node].to_dataset()
    figure = checked(xr.DataTree.from_dict(parts))
    assert len(figure.axes) == 1 + sum(n - 1 for n in PANELS.values())
    none = plot_quality(tree(), pd.DataFrame(columns=list(COLUMNS)))
    assert not none.axes


def test_odd_nodes_are_drawn():
    song = xr.Dataset({"power": (("time", "frequency"), np.ones((50, 8)), {"units": "1"})},
                      clock(50, 10.0))  # fmt: skip
    silent = xr.Dataset({"dff": (("time", "roi"), np.zeros((50, 3)), {"units": "1"})},
                        clock(50, 10.0))  # fmt: skip
    lost = xr.Dataset({"x": ("time", np.full(50, np.nan), {"units": "m"})}, clock(50, 10.0))
    short = xr.Dataset({"voltage": (("time", "channel"), np.zeros((1, 2)), {"units": "V"})},
                       clock(1, 10.0))  # fmt: skip
    figure = checked(tree(behavior__song=song, calcium__a=silent, behavior__p=lost,
                          ephys__lfp=short))  # fmt: skip
    assert len(figure.axes) == 1 + 1 + 3 + 1 + 3


def test_long_names_keep_the_number_at_their_end():
    names = ["LFP_RIGHT_0", "LFP_RIGHT_1", "ECOG_RIGHT_0", "A1"]
    short = [_short(name) for name in names]
    assert len(set(short)) == len(names)
    assert max(map(len, short)) <= LONGEST
