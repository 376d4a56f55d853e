"""neuropipe: recordings in as labelled arrays, published models, results out as labelled arrays.

Every public name is loaded when it is first used, so that ``import neuropipe`` stays quick and
brings in neither torch nor xarray nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "open_recording": "neuropipe.io.store",
    "write": "neuropipe.io.store",
    "read_nwb": "neuropipe.io.nwb:read",
    "to_pynapple": "neuropipe.io.interop",
    "to_pandas": "neuropipe.io.interop",
    "to_numpy": "neuropipe.io.interop",
    "validate": "neuropipe.schema",
    "apply_steps": "neuropipe.preprocess",
    "make_splits": "neuropipe.batching.splits",
    "attach_windows": "neuropipe.batching.windows",
    "simulate": "neuropipe.scripting",
    "cross_validate": "neuropipe.scripting",
    "plot": "neuropipe.scripting",
    "tabulate": "neuropipe.scripting",
    "DuIN": "neuropipe.models.du_in.estimator",
    "HMMGLM": "neuropipe.models.hmm_glm.estimator",
    "MMGPVAE": "neuropipe.models.mm_gpvae.estimator",
    "MindBridge": "neuropipe.models.mindbridge.estimator",
    "NTFConnectome": "neuropipe.models.ntf_connectome.estimator",
    "Neuroformer": "neuropipe.models.neuroformer.estimator",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neuropipe' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted(__all__)
