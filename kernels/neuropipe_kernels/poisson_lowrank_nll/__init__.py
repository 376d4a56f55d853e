"""Poisson term of an evidence bound: counts driven by a few uncertain latents."""

from __future__ import annotations

import torch

from neuropipe_kernels.dispatch import use_fused
from neuropipe_kernels.poisson_lowrank_nll.reference import expected_nll

REDUCTIONS = ("none", "sum")


def poisson_lowrank_nll(
    z: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    variance: torch.Tensor | None,
    counts: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    reduction: str = "none",
    backend: str = "auto",
) -> torch.Tensor:
    """Return the expectation of -log p(counts | latents) over Gaussian latents, in closed form.

    With latents x[m] ~ N(z[m], diag(variance[m])) and counts[m, n] ~ Poisson(exp(offset[n] +
    weight[n] . x[m])), the term of bin m is ``sum_n exp(eta + q / 2) - counts eta``, where eta =
    offset[n] + weight[n] . z[m] and q = weight[n]^2 . variance[m].

    Parameters
    ----------
    z : (bin, latent)
        Posterior means; float32 or float64.
    weight : (neuron, latent)
        Loadings.
    offset : (neuron,)
        Logarithm of the count a bin at z = 0.
    variance : (bin, latent) or None
        Posterior variances, not standard deviations; None: the latents are known.
    counts : (bin, neuron)
        Spikes per bin, integers of any width or floats; uint8 is read fastest.
    mask : (bin,) bool or None
        True = observed. Another bin contributes 0, and what stands in it is never used.
    reduction : str
        ``none``: one number a bin. ``sum``: their sum, of which the fused form makes all
        gradients in the forward pass; training wants this one.
    backend : str
        ``auto``, ``reference`` or ``fused``; see ``dispatch.use_fused``.

    Returns
    -------
    (bin,) or (), nats
        WITHOUT the log factorials of the counts, a constant of the data: a true log likelihood
        needs ``torch.lgamma(counts + 1).sum()`` added, once. Dtype of ``z``; differentiable by
        z, weight, offset and variance.

    Raises
    ------
    ValueError
        On wrong shapes, dtypes or names.

    Notes
    -----
    CPU: plain torch, one array of bins times neurons. CUDA: no such array; one pass over the
    counts makes the term and its gradients, parts of sums over bins are added in a fixed order,
    so a call gives the same bits again. There float32 factors are multiplied as sums of two
    bfloat16, errors about 5e-6 whatever ``torch.get_float32_matmul_precision()`` says. ``none``
    makes its tiles twice when it is differentiated. Float64 and more than 64 latents take the
    reference there. A rate beyond the dtype's range is infinite, here as there.

    Source: the Poisson likelihood of Gondur et al. (ICLR 2024) under a Gaussian posterior, whose
    mean is that of a log-normal; the authors' code puts the standard deviation where the variance
    belongs, which is not followed.
    """
    _check(z, weight, offset, variance, counts, mask, reduction)
    run = expected_nll
    if use_fused(z, backend):
        from neuropipe_kernels.poisson_lowrank_nll.fused import expected_nll as fused
        from neuropipe_kernels.poisson_lowrank_nll.fused import serves

        run = fused if serves(z) else run
    return run(z, weight, offset, variance, counts, mask, reduction)


def _check(
    z: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    variance: torch.Tensor | None,
    counts: torch.Tensor,
    mask: torch.Tensor | None,
    reduction: str,
) -> None:
    """Check one call."""
    name = "poisson_lowrank_nll"
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction is {reduction!r}, expected none or sum")
    if z.ndim != 2 or weight.ndim != 2 or weight.shape[1] != z.shape[1]:
        raise ValueError(
            f"{name}: z {tuple(z.shape)} and weight {tuple(weight.shape)} do not fit; expected "
            "(bin, latent) and (neuron, latent); flatten trials into bins first"
        )
    if z.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: z is {z.dtype}, expected float32 or float64")
    n_bins, n_neurons = len(z), len(weight)
    expected = {
        "offset": (offset, (n_neurons,)),
        "variance": (variance, tuple(z.shape)),
        "counts": (counts, (n_bins, n_neurons)),
        "mask": (mask, (n_bins,)),
    }
    for label, (table, shape) in expected.items():
        if table is not None and table.shape != shape:
            raise ValueError(
                f"{name}: {label} has shape {tuple(table.shape)}, expected {shape} to go with z "
                f"{tuple(z.shape)} and weight {tuple(weight.shape)}"
            )
    for label, table in (("weight", weight), ("offset", offset), ("variance", variance)):
        if table is not None and table.dtype != z.dtype:
            raise ValueError(
                f"{name}: {label} is {table.dtype}, expected {z.dtype} as z; convert it with .to(z)"
            )
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"{name}: mask is {mask.dtype}, expected bool (True = observed)")
    if counts.dtype == torch.bool or counts.is_complex():
        raise ValueError(f"{name}: counts is {counts.dtype}, expected integers or floats")
