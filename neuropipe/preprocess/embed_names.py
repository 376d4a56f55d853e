"""Features of what trials are called: node `embedding` for recordings whose stimuli are words."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess.tables import interval_table
from neuropipe.schema import Recording


def embed_names(
    recording: Recording,
    *,
    column: str,
    table: str = "events",
    extractor: Literal["minilm", "one_hot"] = "minilm",
    captions: dict[str, str] | None = None,
    node: Literal["embedding", "text_embedding"] = "embedding",
) -> Recording:
    """Write node `embedding`: features of each name that a column of a table has.

    Parameters
    ----------
    recording : DataTree
        With the table.
    column : str
        Of the names; they become the node's stimuli.
    table : str
        ``"events"`` for node ``intervals/events``, or ``"trials"``.
    extractor : str
        ``minilm``: sentence features, whose weights the extra `encoders` brings; ``one_hot``: a
        feature for each name, all names equally far.
    captions : mapping of name to sentence, optional
        What is read instead of a name.
    node : str
        Where the features go.

    Raises
    ------
    DataError
        No such table or column, or a caption of a name that is not there.
    BackendUnavailable
        The extractor's weights are not installed.
    """
    events = interval_table(recording, table, "embed_names")
    if column not in events:
        raise DataError(
            f"embed_names: no column {column!r}; the table has "
            f"{', '.join(map(str, events.data_vars))}"
        )
    found = {str(name) for name in events[column].values}
    names = sorted(found - {"", "n/a", "nan", "None"})
    lost = sorted(set(captions or {}) - set(names))
    if lost or not names:
        raise DataError(
            f"embed_names: column {column!r} has {', '.join(names) or 'no names'}, expected "
            f"{', '.join(lost) or 'some'}"
        )
    if extractor == "one_hot":
        values = np.eye(len(names), dtype=np.float32)
    else:
        from neuropipe.encoders.minilm import features

        values = np.concatenate(list(features([(captions or {}).get(n, n) for n in names])))
    out = recording.copy()
    out[node] = xr.DataTree(
        xr.Dataset(
            {"embedding": (("stimulus", "feature"), values, {"units": "1"})},
            {"stimulus": ("stimulus", np.array(names, dtype=object), {"units": ""})},
            {"extractor": extractor},
        )
    )
    return out
