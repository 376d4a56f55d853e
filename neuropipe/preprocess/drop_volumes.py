"""Volumes at the start of each run, before the magnetisation is steady, left out."""

from __future__ import annotations

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.signals import node_dataset, replaced
from neuropipe.runs import run_slices
from neuropipe.schema import Recording

NODES = ("bold", "confounds", "regions")


def drop_volumes(recording: Recording, *, n_volumes: int) -> Recording:
    """Leave out the first volumes of each run; the others keep their times.

    Parameters
    ----------
    recording : DataTree
        With node `bold`; `confounds` and `regions` are cut alike.
    n_volumes : int
        Volumes to leave out of each run.

    Raises
    ------
    DataError
        The number is negative, or a run has no more volumes than that.
    """
    if n_volumes < 0:
        raise DataError(f"drop_volumes: n_volumes is {n_volumes}, expected 0 or more")
    node_dataset(recording, "bold", "drop_volumes")
    out = recording
    for name in (name for name in NODES if name in recording.children):
        runs = run_slices(recording, name)
        shortest = min(run.stop - run.start for run in runs)
        if shortest <= n_volumes:
            raise DataError(
                f"drop_volumes: session {recording.attrs.get('session')}: a run of {name} has "
                f"{shortest} volumes, expected more than n_volumes {n_volumes}"
            )
        kept = np.concatenate([np.arange(run.start + n_volumes, run.stop) for run in runs])
        node = node_dataset(recording, name, "drop_volumes")
        out = replaced(out, name, node.isel(time=kept))
    return out
