"""Recursive filtering of many channels by second-order sections, parallel over time."""

from __future__ import annotations

import torch

from neuropipe_kernels.dispatch import use_fused
from neuropipe_kernels.sos_scan.reference import filter_sections

REAL = (torch.float32, torch.float64)


def sos_scan(
    x: torch.Tensor,
    sos: torch.Tensor,
    zi: torch.Tensor | None = None,
    *,
    reverse: bool = False,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Filter every channel by a cascade of second-order sections.

    Parameters
    ----------
    x : (time, channel), any unit
        float32 or float64, at least one sample. NaN and infinity spread to every later
        sample of their channel, as in any recursive filter.
    sos : (section, 6)
        Rows b0 b1 b2 a0 a1 a2 with a0 = 1, the layout of ``scipy.signal``. Taken as float64
        on the device of ``x``; put it there beforehand when the call is to be captured in a
        CUDA graph.
    zi : (section, 2, channel) or None, unit of x
        State entering the first sample that is filtered, scipy's convention; None is rest.
    reverse : bool
        Run from the last sample to the first: the result of flipping ``x``, filtering it and
        flipping it back. Forward and then reverse is zero-phase filtering.
    backend : str
        ``auto``, ``reference`` or ``fused``; see ``dispatch.use_fused``.

    Returns
    -------
    y : (time, channel), unit of x
        Dtype of ``x``.
    zf : (section, 2, channel) float64, unit of x
        State after the last sample that was filtered. As ``zi`` of the next piece it makes
        pieces, filtered one after another, equal to the whole up to float64 rounding.

    Raises
    ------
    ValueError
        On wrong shapes or dtypes, when an input requires a gradient, or (for ``sos`` on the
        CPU) when a0 is not 1.

    Notes
    -----
    The recursion runs in float64 whatever the dtype of ``x``, so that poles near 1 (0.5 Hz
    at 2 kHz) hold. CPU: plain torch, parallel over chunks of time. CUDA: Triton, in groups of
    8 sections; one lane is one channel of one chunk. There is no gradient: detach the input.

    Source: transposed direct form II, Oppenheim & Schafer, Discrete-Time Signal Processing,
    section 6.3; chunks run from rest, are joined by powers of the state transition, and run
    again from their true state.
    """
    zi = _check(x, sos, zi)
    sos = sos.detach().to(x.device, torch.float64)
    run = filter_sections
    with torch.no_grad():
        if use_fused(x, backend):
            from neuropipe_kernels.sos_scan.fused import filter_sections as fused

            run = fused
        return run(x, sos, zi, reverse)


def _check(x: torch.Tensor, sos: torch.Tensor, zi: torch.Tensor | None) -> torch.Tensor:
    """Check one call and return the entering state as float64."""
    if x.ndim != 2 or x.shape[0] == 0 or x.dtype not in REAL:
        raise ValueError(
            f"sos_scan: x is {x.dtype} of shape {tuple(x.shape)}, expected float32 or float64 "
            "of shape (time, channel) with at least one sample"
        )
    if sos.ndim != 2 or sos.shape[1] != 6 or sos.shape[0] == 0 or sos.dtype not in REAL:
        raise ValueError(
            f"sos_scan: sos is {sos.dtype} of shape {tuple(sos.shape)}, expected float64 of "
            "shape (section, 6) as scipy.signal designs it with output='sos'"
        )
    if not sos.is_cuda and not bool((sos[:, 3] == 1).all()):
        raise ValueError(
            f"sos_scan: column 3 of sos (a0) is {sos[:, 3].tolist()}, expected ones; divide "
            "each row by its a0"
        )
    shape = (sos.shape[0], 2, x.shape[1])
    if zi is None:
        zi = torch.zeros(shape, dtype=torch.float64, device=x.device)
    elif tuple(zi.shape) != shape or zi.dtype not in REAL or zi.device != x.device:
        raise ValueError(
            f"sos_scan: zi is {zi.dtype} of shape {tuple(zi.shape)} on {zi.device}, expected "
            f"float64 of shape {shape}, (section, 2, channel), on {x.device} as x"
        )
    for name, tensor in (("x", x), ("sos", sos), ("zi", zi)):
        if tensor.requires_grad:
            raise ValueError(
                f"sos_scan: {name} requires a gradient, which this op does not have; "
                f"pass {name}.detach()"
            )
    return zi.double()
