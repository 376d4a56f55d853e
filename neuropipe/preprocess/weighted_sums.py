"""Linear maps over the time of one run, streamed: what a GLM needs of a long recording."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np

# Values held in float64 at a time: a block is worked through in pieces of this size.
PIECE = 2**22


def weighted_sums(
    values: da.Array,
    weights: np.ndarray,
    choice: da.Array | None = None,
    squares: bool = False,
) -> da.Array:
    """Return sums over time of a signal under several weights, read once, block by block.

    Parameters
    ----------
    values : (time, voxel), one run
    weights : (time, out), or (map, time, out) with a `choice` of one map for each voxel; a sample
        that no weight counts has no say, even where it is NaN
    choice : (voxel,) index of its map
    squares : append the sum of squares of the samples that count

    Returns
    -------
    dask array
        (out, voxel) float64, chunked as the voxels are.

    Notes
    -----
    Memory: a block and a few times the result, whatever the length of the run.
    """
    stacked = weights[None] if weights.ndim == 2 else weights  # (map, time, out)
    n_out = stacked.shape[2] + squares
    counted = (stacked != 0).any(axis=(0, 2))
    lined = da.from_array(stacked, chunks=(-1, values.chunks[0], -1))
    rows = da.from_array(counted, chunks=(values.chunks[0],))
    chosen = () if choice is None else (choice.rechunk((values.chunks[1],)), "v")
    parts = da.blockwise(
        _block_sums, "bov", values, "bv", lined, "kbo", rows, "b", *chosen,
        adjust_chunks={"b": 1, "o": n_out}, concatenate=True, dtype=np.float64,
        meta=np.empty((0, 0, 0)), squares=squares,
    )  # fmt: skip
    return _added(parts)


def _added(parts: da.Array) -> da.Array:
    """Return the sum over the first dim, one block after the other: a tree would hold dozens."""
    add = dask.delayed(_add, pure=True, traverse=False)
    blocks = parts.to_delayed(optimize_graph=False)[:, 0]
    columns = []
    for j, width in enumerate(parts.chunks[2]):
        total = blocks[0, j]
        for block in blocks[1:, j]:
            total = add(total, block)
        whole = da.from_delayed(total, (1, parts.shape[1], width), dtype=parts.dtype)
        columns.append(whole[0])
    return da.concatenate(columns, axis=1)


def _add(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first + second


def _block_sums(
    block: np.ndarray,
    weights: np.ndarray,
    rows: np.ndarray,
    choice: np.ndarray | None = None,
    *,
    squares: bool,
) -> np.ndarray:
    out = np.zeros((1, weights.shape[2] + squares, block.shape[1]))
    step = max(1, PIECE // max(1, block.shape[1]))
    counted = np.flatnonzero(rows)
    for at in range(0, len(counted), step):
        own = counted[at : at + step]
        part = block[own].astype(np.float64)
        if choice is None:
            out[0, : weights.shape[2]] += weights[0, own].T @ part
        else:
            for k in np.unique(choice):
                mine = choice == k
                out[0, : weights.shape[2], mine] += (weights[k, own].T @ part[:, mine]).T
        if squares:
            out[0, -1] += np.einsum("tv,tv->v", part, part)
    return out


def without(
    values: da.Array, basis: np.ndarray, sums: da.Array, kept: np.ndarray, percent: bool = False
) -> da.Array:
    """Return a signal without its part along a basis: `values - basis @ sums`, block by block.

    Parameters
    ----------
    values : (time, voxel)
    basis : (time, column)
    sums : (column, voxel), of `weighted_sums`
    kept : (time,) False where the result is NaN
    percent : give the result in percent of the first of the sums, NaN where that is 0

    Returns
    -------
    dask array
        (time, voxel), of the signal's own type.
    """
    lined = da.from_array(basis, chunks=(values.chunks[0], -1))
    rows = da.from_array(kept, chunks=(values.chunks[0],))
    return da.blockwise(
        _block_without, "tv", values, "tv", lined, "tq", sums.rechunk({0: -1}), "sv", rows, "t",
        concatenate=True, dtype=values.dtype, meta=np.empty((0, 0), values.dtype), percent=percent,
    )  # fmt: skip


def _block_without(
    block: np.ndarray, basis: np.ndarray, sums: np.ndarray, kept: np.ndarray, *, percent: bool
) -> np.ndarray:
    out = np.empty_like(block)
    scale = percent_of(sums[0]) if percent else np.ones(block.shape[1])
    step = max(1, PIECE // max(1, block.shape[1]))
    for at in range(0, len(block), step):
        rows = slice(at, at + step)
        out[rows] = (block[rows] - basis[rows] @ sums) * scale
    out[~kept] = np.nan
    return out


def percent_of(mean: np.ndarray) -> np.ndarray:
    """Return what turns a signal into percent of its mean; NaN where the mean is 0."""
    with np.errstate(divide="ignore"):
        return np.where(mean == 0, np.nan, 100 / np.abs(mean))
