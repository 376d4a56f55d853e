"""Where randomness, devices and number formats are decided; no global state is touched."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import ConfigError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def generator(seed: int, stream: str) -> np.random.Generator:
    """Return a NumPy generator for one named purpose.

    Parameters
    ----------
    seed : int
        The run's seed, at least 0.
    stream : str
        What the numbers are for, such as ``"init"``; streams are independent of each other, so
        that a further draw in one place changes nothing elsewhere.

    Raises
    ------
    ConfigError
        If the seed is below 0.
    """
    if seed < 0:
        raise ConfigError(f"seed: found {seed}, expected a whole number from 0 on")
    key = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, key])


def pick_device(device: str = "auto") -> torch.device:
    """Return the device that a fit runs on.

    Parameters
    ----------
    device : str
        ``"auto"`` takes CUDA when torch sees a card, else the CPU; anything else is torch's name.

    Raises
    ------
    ConfigError
        If a CUDA device is named and torch sees none, or torch knows no such device.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"device: {device!r} was asked for and torch {torch.__version__} sees no CUDA card; "
            "say device='auto' or 'cpu', or run `neuropipe doctor`"
        )
    try:
        return torch.device(device)
    except RuntimeError:
        raise ConfigError(
            f"device: torch knows no {device!r}, expected auto, cpu, cuda or cuda:0"
        ) from None


def float_policy(device: torch.device) -> torch.dtype:
    """Return the dtype of data and parameters: float64 on CPU, float32 on an accelerator."""
    import torch

    return torch.float64 if device.type == "cpu" else torch.float32
