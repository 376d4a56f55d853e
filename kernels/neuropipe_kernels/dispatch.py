"""Which form of an op runs: the Triton kernels or the plain torch reference."""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib.util import find_spec

import torch

log = logging.getLogger(__name__)

BACKENDS = ("auto", "reference", "fused")


class BackendUnavailable(RuntimeError):
    """The fused form was asked for by name and cannot run here."""


def use_fused(x: torch.Tensor, backend: str = "auto") -> bool:
    """Say whether the Triton form serves a call on the device of ``x``.

    Parameters
    ----------
    x : any shape
        The op's main input; only its device is looked at.
    backend : str
        ``auto`` takes the fused form for CUDA tensors when Triton is installed;
        ``reference`` and ``fused`` decide by name. The environment variable
        NEUROPIPE_KERNELS, when set to one of the three, replaces this argument.

    Returns
    -------
    bool
        True for the fused form.

    Raises
    ------
    ValueError
        For a name that is none of the three.
    BackendUnavailable
        When ``fused`` is asked for and Triton is missing, or the tensor is on the CPU
        outside Triton's interpreter.

    Notes
    -----
    With TRITON_INTERPRET=1 the fused form also runs on CPU tensors, slowly, when named.
    """
    choice = os.environ.get("NEUROPIPE_KERNELS") or backend
    if choice not in BACKENDS:
        raise ValueError(
            f"backend is {choice!r}, expected one of {', '.join(BACKENDS)}; "
            "correct the argument or the environment variable NEUROPIPE_KERNELS"
        )
    if choice == "reference":
        return False
    reason = _why_not(x.device.type, os.environ.get("TRITON_INTERPRET", "0") == "1")
    if choice == "fused":
        if reason:
            raise BackendUnavailable(f"backend='fused' cannot run here: {reason}")
        return True
    if not x.is_cuda:
        return False
    if reason:
        _say_once(reason)
    return not reason


@cache
def _why_not(device: str, interpreted: bool) -> str:
    """Return the reason why Triton cannot serve this device, or an empty text."""
    if find_spec("triton") is None:
        return "the package triton is not installed; use backend='reference'"
    if device == "cuda" or (device == "cpu" and interpreted):
        return ""
    return (
        f"the tensor is on {device}, Triton needs cuda; move it there, use "
        "backend='reference', or set TRITON_INTERPRET=1 to test on a CPU"
    )


@cache
def _say_once(reason: str) -> None:
    """Log the silent choice of the reference on a CUDA device, once a reason."""
    log.info("kernels run as plain torch: %s", reason)
