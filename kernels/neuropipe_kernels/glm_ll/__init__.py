"""Log likelihood of a population's counts under the GLM of every state."""

from __future__ import annotations

import torch

from neuropipe_kernels.dispatch import use_fused
from neuropipe_kernels.glm_ll.reference import log_likelihood

LINKS = {
    "poisson": ("softplus", "exp", "sigmoid"),
    "bernoulli": ("sigmoid",),
}


def glm_ll(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    counts: torch.Tensor,
    *,
    link: str = "softplus",
    family: str = "poisson",
    mask: torch.Tensor | None = None,
    noise_std: torch.Tensor | float | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Sum log p(counts | features, state) over neurons, for every bin and state.

    The linear predictor is eta[t, k, n] = bias[k, n] + features[t] . weight[k, n].

    Parameters
    ----------
    features : (time, feature)
        Covariates of each bin: filtered spike history, stimulus; float32 or float64.
    weight : (state, neuron, feature)
        States may be stacked over restarts.
    bias : (state, neuron)
    counts : (time, neuron)
        Spikes per bin for ``poisson``, 0 or 1 for ``bernoulli``, signal for ``gaussian``.
    link : str
        ``poisson``: rate per bin = softplus(eta), exp(eta) or sigmoid(eta).
        ``bernoulli``: must be ``sigmoid``. ``gaussian``: ignored, the mean is eta.
    family : str
        ``poisson`` (with the log factorial), ``bernoulli`` or ``gaussian``.
    mask : (time, neuron) bool or None
        True = observed; a missing entry contributes 0 and its count is never used.
    noise_std : float or (neuron,) or None, unit of counts
        Standard deviation; ``gaussian`` only.
    backend : str
        ``auto``, ``reference`` or ``fused``; see ``dispatch.use_fused``.

    Returns
    -------
    (time, state), nats
        Dtype of ``features``; differentiable by ``weight`` and ``bias``, in the reference
        also by ``features``.

    Raises
    ------
    ValueError
        On wrong shapes, dtypes, or a family and link that do not go together.

    Notes
    -----
    CPU: blocks of time, so memory stays bounded without gradients. CUDA: one product whose
    epilogue sums over neurons; eta is never stored, and the backward recomputes it. From 256
    features and outputs on cuBLAS makes the product, block of time by block, and up to 4 GiB of
    slopes are kept for the backward. There float32 products follow
    ``torch.get_float32_matmul_precision()``: ``highest`` keeps float32 accuracy (three tf32
    products; wide models six of bfloat16, with 5e-5 in gradients whose sums over time cancel),
    anything else is one tf32 product (about 3e-4).
    Float64, and calls that want the gradient by ``features``, take the reference there.

    Source: Escola et al. (2011), the GLM-HMM's emission; Truccolo et al. (2005), equation 3.
    """
    counts, noise = _check(features, weight, bias, counts, link, family, mask, noise_std)
    run = log_likelihood
    if use_fused(features, backend):
        from neuropipe_kernels.glm_ll.fused import log_likelihood as fused
        from neuropipe_kernels.glm_ll.fused import serves

        run = fused if serves(features) else run
    return run(features, weight, bias, counts, link, family, mask, noise)


def _check(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    counts: torch.Tensor,
    link: str,
    family: str,
    mask: torch.Tensor | None,
    noise_std: torch.Tensor | float | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Check one call; return counts in the working dtype and the noise as a tensor."""
    if family != "gaussian" and link not in LINKS.get(family, ()):
        raise ValueError(
            f"glm_ll: family {family!r} with link {link!r} is unknown; expected gaussian, or one "
            "of " + "; ".join(f"{name} with {' / '.join(ls)}" for name, ls in LINKS.items())
        )
    if features.ndim != 2 or weight.ndim != 3 or weight.shape[2] != features.shape[1]:
        raise ValueError(
            f"glm_ll: features {tuple(features.shape)} and weight {tuple(weight.shape)} do not "
            "fit; expected (time, feature) and (state, neuron, feature)"
        )
    n_states, n_neurons, _ = weight.shape
    expected = {
        "bias": (bias, (n_states, n_neurons)),
        "counts": (counts, (features.shape[0], n_neurons)),
        "mask": (mask, (features.shape[0], n_neurons)),
    }
    for name, (table, shape) in expected.items():
        if table is not None and table.shape != shape:
            raise ValueError(
                f"glm_ll: {name} has shape {tuple(table.shape)}, expected {shape} to go with "
                f"features {tuple(features.shape)} and weight {tuple(weight.shape)}"
            )
    if features.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"glm_ll: features is {features.dtype}, expected float32 or float64")
    if weight.dtype != features.dtype or bias.dtype != features.dtype:
        raise ValueError(
            f"glm_ll: weight is {weight.dtype} and bias {bias.dtype}, expected {features.dtype} "
            "as features; convert them with .to(features)"
        )
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"glm_ll: mask is {mask.dtype}, expected bool (True = observed)")
    if (noise_std is None) == (family == "gaussian"):
        raise ValueError(
            f"glm_ll: noise_std is {'missing' if noise_std is None else 'given'} for family "
            f"{family!r}; gaussian needs it, the others take none"
        )
    noise = None
    if noise_std is not None:
        noise = torch.as_tensor(noise_std, dtype=features.dtype, device=features.device)
        if noise.shape not in ((), (n_neurons,)):
            raise ValueError(
                f"glm_ll: noise_std has shape {tuple(noise.shape)}, expected a number or "
                f"({n_neurons},)"
            )
        if not noise.is_cuda and not bool((noise > 0).all()):
            raise ValueError(f"glm_ll: noise_std must be positive, found {float(noise.min()):.3g}")
    return counts.to(features.dtype), noise
