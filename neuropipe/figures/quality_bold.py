"""Panels of BOLD for the figure of a recording's quality: tSNR, motion, carpet."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from neuropipe.figures.quality_signals import BAD, INK, Checks
from neuropipe.figures.style import GREY, SEQUENTIAL, heat

VOXELS = 150  # of the carpet
COLUMNS = 500  # of the carpet; longer series are shown every so many volumes
MOTION = "framewise_displacement"


def bold(part: SubFigure, recording: xr.DataTree, node: str, checks: Checks) -> None:
    """Draw temporal SNR in the middle slice and over voxels, motion, and a carpet of voxels."""
    left, right = part.subfigures(1, 2, width_ratios=[1, 1.7], squeeze=False)[0]
    image, spread = left.subplots(2, 1, height_ratios=[1.6, 1])
    dataset = recording[node].to_dataset()
    edges = _edges(recording, dataset)
    first = slice(0, edges[1])
    values = dataset["bold"].isel(time=first)
    mean, sd = (np.asarray(getattr(values, name)("time").values) for name in ("mean", "std"))
    tsnr = np.divide(mean, sd, out=np.full(len(mean), np.nan), where=sd > 0)
    _slice(image, dataset, tsnr)
    known = tsnr[np.isfinite(tsnr)]
    if len(known):
        top = np.percentile(known, 99.5)
        spread.hist(np.clip(known, 0, top), bins=40, color=INK)
        spread.axvline(np.median(known), color="black", linewidth=1)
    spread.set(xlabel="temporal SNR (median black)", ylabel="voxels")
    motion, carpet = right.subplots(2, 1, sharex=True, height_ratios=[1, 2.2])
    _motion(motion, recording, dataset)
    _carpet(carpet, dataset, edges, np.flatnonzero(np.isfinite(tsnr)))
    for axes in (motion, carpet):
        for edge in edges[1:-1]:
            axes.axvline(edge - 0.5, color="black", linewidth=0.8)


def _edges(recording: xr.DataTree, dataset: xr.Dataset) -> list[int]:
    """Return the first volume of each run, and the number of volumes."""
    n = dataset.sizes["time"]
    if "runs" not in recording.children:
        return [0, n]
    time = dataset["time"].values
    half = np.diff(time[:2]).sum() / 2
    starts = np.searchsorted(time, recording["runs"]["start_time"].values - half)
    return sorted({0, *(int(s) for s in starts if 0 < s < n), n})


def _slice(axes: Axes, dataset: xr.Dataset, tsnr: np.ndarray) -> None:
    """Draw the axial slice that holds the most voxels."""
    i, j, k = (np.asarray(dataset[name].values, dtype=int) for name in "ijk")
    fullest = int(np.bincount(k - k.min()).argmax() + k.min())
    own = k == fullest
    image = np.full((np.ptp(j) + 1, np.ptp(i) + 1), np.nan)
    image[(j - j.min())[own], (i - i.min())[own]] = tsnr[own]
    top = float(np.nanpercentile(tsnr, 98)) if np.isfinite(tsnr).any() else 1.0
    drawn = heat(axes, image[::-1], cmap=SEQUENTIAL, vmin=0, vmax=top, aspect="equal")
    axes.set(xticks=[], yticks=[], title=f"tSNR of run 1, slice k = {fullest}")
    for side in axes.spines.values():
        side.set_visible(False)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.8)


def _motion(axes: Axes, recording: xr.DataTree, dataset: xr.Dataset) -> None:
    node = recording.children.get("confounds")
    names = node.to_dataset()["confound"].values.tolist() if node is not None else []
    if node is None or MOTION not in names or node.sizes["time"] != dataset.sizes["time"]:
        axes.text(0.5, 0.5, "no framewise displacement in node confounds", color=GREY,
                  transform=axes.transAxes, ha="center", va="center")  # fmt: skip
        axes.set(yticks=[])
        return
    moved = np.asarray(node["confound_value"].isel(confound=names.index(MOTION)).values)
    at = np.arange(len(moved))
    axes.plot(at, moved, color=INK, linewidth=0.8)
    axes.axhline(0.5, color=BAD, linewidth=0.7, linestyle="--")
    axes.set(ylabel="FD (mm)", ylim=(0, None))
    axes.set_title("Framewise displacement, 0.5 mm dashed; lines part runs")


def _carpet(axes: Axes, dataset: xr.Dataset, edges: list[int], live: np.ndarray) -> None:
    """Draw evenly spread voxels that vary as z-scores within each run, by depth in the volume."""
    if not len(live):
        axes.set(xlabel="volume", ylabel="no voxel varies", yticks=[])
        return
    chosen = live[np.unique(np.linspace(0, len(live) - 1, VOXELS).astype(int))]
    values = np.array(dataset["bold"].isel(voxel=chosen).values, dtype=float)
    for start, stop in pairwise(edges):
        run = values[start:stop]
        there = np.isfinite(run)
        n = np.maximum(there.sum(axis=0), 1)
        middle = np.where(there, run, 0).sum(axis=0) / n
        spread = np.sqrt((np.where(there, run - middle, 0) ** 2).sum(axis=0) / n)
        values[start:stop] = (run - middle) / np.where(spread > 0, spread, np.nan)
    n = len(values)
    heat(axes, values[:: -(-n // COLUMNS)].T, cmap="gray", aspect="auto", vmin=-2, vmax=2,
         extent=(-0.5, n - 0.5, len(chosen) - 0.5, -0.5))  # fmt: skip
    axes.set(xlabel="volume", ylabel=f"{len(chosen)} of {len(live):,} voxels",
             yticks=[], title="Carpet of z-scores, -2 black to 2 white")  # fmt: skip
