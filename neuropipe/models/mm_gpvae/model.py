"""The MM-GPVAE: networks, prior and evidence lower bound, tensors in and out.

Legend: y neural data (B, T, unit), x behaviour (B, T, channel), z latents (B, T, D) in the order
shared, neural, behaviour. Gondur et al. (ICLR 2024): y ~ p(y | z_shared, z_neural), x ~ p(x |
z_shared, z_behavior), each latent a Gaussian process in Fourier coefficients (`fourier`), bound
E log p(y | z) + w E log p(x | z) - KL (their eq. 9 with w = 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from neuropipe_kernels import poisson_lowrank_nll
from torch import Tensor, nn

from neuropipe.models.mm_gpvae.config import Config
from neuropipe.models.mm_gpvae.fourier import (
    circle_bins,
    fourier_basis,
    highest_frequency,
    prior_variance,
    whitened_basis,
)
from neuropipe.models.mm_gpvae.likelihoods import Likelihood
from neuropipe.models.mm_gpvae.network import (
    Straight,
    TimeMap,
    decode,
    make_decoder,
    make_encoder,
)
from neuropipe.models.mm_gpvae.posterior import (
    Evidence,
    Posterior,
    diagonal,
    from_evidence,
    pool,
)
from neuropipe.training.processes import normal_like, reduce_sum


class Start(NamedTuple):
    """What a model is built from, besides its configuration; all of the training data.

    Attributes
    ----------
    n_bins : int
        Of the longest piece.
    length : (float, float, float), bins
        Starts of the length scales of shared, neural and behaviour latents.
    neural_mean, neural_sd : (unit,)
        Of the modelled data, counts or scaled traces.
    n_channels : int
    family : str
        Of the neural likelihood, resolved.
    weight : float
        Of the behaviour's likelihood.
    """

    n_bins: int
    length: tuple[float, float, float]
    neural_mean: tuple[float, ...]
    neural_sd: tuple[float, ...]
    n_channels: int
    family: str
    weight: float


class Modality(nn.Module):
    """Encoder, decoder and likelihood of one modality, and the latents that it sees."""

    which: Tensor
    sees: Tensor
    likelihood: Likelihood

    def __init__(
        self, which: list[int], n_latents: int, encoder: nn.Module, decoder: nn.Sequential,
        likelihood: Likelihood, linear: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.linear = linear
        self.register_buffer("which", torch.tensor(which, dtype=torch.int64), persistent=False)
        seen = torch.zeros(n_latents, dtype=torch.bool)
        seen[which] = True
        self.register_buffer("sees", seen, persistent=False)

    @property
    def matrix(self) -> tuple[Tensor, Tensor]:
        """Weight (channel, latent seen) and bias of a linear decoder."""
        layer = cast(nn.Linear, self.decoder[0])
        return layer.weight, layer.bias

    def predictor(self, z: Tensor, variance: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the predictor at z (B, T, D), and its variance where the decoder is linear."""
        eta = decode(self.decoder, z[..., self.which])
        if variance is None or not self.linear:
            return eta, None
        return eta, variance[..., self.which] @ self.matrix[0].square().T


class MMGPVAENetwork(nn.Module):
    """All that is learned.

    Parameters
    ----------
    config : Config
    numbers : (int, int, int)
        Latents: shared, neural, behaviour.
    start : Start
    """

    basis: Tensor
    frequency: Tensor
    shift: Tensor
    stretch: Tensor

    def __init__(self, config: Config, numbers: tuple[int, int, int], start: Start) -> None:
        super().__init__()
        self.config, self.numbers, self.start = config, numbers, start
        s, n, b = numbers
        self.n_latents = s + n + b
        raw = config.scales == "raw"
        lengths = [x for x, k in zip(start.length, numbers, strict=True) for _ in range(k)]
        self.n_circle = circle_bins(start.n_bins, config.circle, max(lengths))
        self.min_length = config.min_length_scale_bins or max(1.0, 0.4 * min(lengths))
        highest = highest_frequency(self.n_circle, self.min_length, config.pruning)
        basis, frequency = fourier_basis(self.n_circle, start.n_bins, highest)
        self.register_buffer("basis", basis.float(), persistent=False)
        self.register_buffer("frequency", frequency.float(), persistent=False)
        lengths = lengths[:1] if config.shared_length_scale else lengths
        length = torch.tensor(lengths, dtype=torch.float32)
        self.raw_length = nn.Parameter(length if raw else length.log())
        c, n_units = config, len(start.neural_mean)
        self.neural: Modality | None = None
        self.behavior: Modality | None = None
        if n_units:
            mean = torch.tensor(start.neural_mean, dtype=torch.float32)
            self.register_buffer("shift", mean)
            self.register_buffer("stretch", torch.tensor(start.neural_sd, dtype=torch.float32))
            linear = c.neural_decoder == "linear"
            which = [*range(s + n)]
            decoder = make_decoder(c.neural_decoder, s + n, c.neural_hidden, n_units, None)
            with torch.no_grad():
                counted = start.family != "gaussian"
                last = list(decoder.parameters())[-1]
                last.copy_(mean.log() if counted else mean)
            encoder = make_encoder(c.neural_encoder, n_units, c.neural_hidden, 2 * (s + n), None)
            if linear and c.neural_start == "factors" and c.posterior == "sites":
                encoder = Straight(cast(nn.Sequential, encoder), n_units, 2 * (s + n))
            self.neural = Modality(
                which, self.n_latents, encoder, decoder,
                Likelihood(start.family, n_units, sd=0.7, raw=raw), linear,
            )  # fmt: skip
        if start.n_channels:
            which = [*range(s), *range(s + n, s + n + b)]
            kind, shape = c.behavior_decoder, c.image_shape
            self.behavior = Modality(
                which, self.n_latents,
                make_encoder(
                    c.behavior_encoder, start.n_channels, c.behavior_hidden, 2 * (s + b), shape
                ),
                make_decoder(kind, s + b, c.behavior_hidden, start.n_channels, shape),
                Likelihood(
                    c.behavior_likelihood, start.n_channels, sd=c.behavior_noise_sd,
                    common=c.behavior_noise == "common", rank=c.noise_rank, raw=raw,
                ), kind == "linear" and c.noise_rank == 0,
            )  # fmt: skip
        if c.posterior == "dense":
            self.maps = nn.ModuleDict(
                {name: TimeMap(start.n_bins, len(frequency)) for name, _ in self.modalities()}
            )

    def modalities(self) -> list[tuple[str, Modality]]:
        """Return the modalities that there are, by name."""
        both = (("neural", self.neural), ("behavior", self.behavior))
        return [(name, part) for name, part in both if part is not None]

    @property
    def length(self) -> Tensor:
        """Length scales, (D,), bins."""
        if self.config.scales == "raw":
            value = self.raw_length.clamp(min=0.5)
        else:
            value = self.raw_length.exp()
        return value.expand(self.n_latents)

    def whitened(self, n_bins: int) -> Tensor:
        """Return A (D, F, T) for the first bins of the circle."""
        basis = self.basis[:, :n_bins]
        return whitened_basis(basis, self.frequency, self.length, self.config.jitter)

    def standard(self, name: str, data: Tensor, seen: Tensor) -> Tensor:
        """Return what an encoder is shown: counts standardised, missing values at the mean."""
        if name == "neural":
            data = (data - self.shift) / self.stretch
        return torch.where(seen, data, 0.0)

    def shown(self, batch: Mapping[str, Tensor]) -> list[tuple[str, Modality]]:
        """Return the modalities that a batch has."""
        return [(name, part) for name, part in self.modalities() if name in batch]

    def encode(self, batch: Mapping[str, Tensor]) -> list[Evidence]:
        """Return each modality's evidence on all latents; none for those that it does not see."""
        out = []
        for name, part in self.shown(batch):
            seen = batch[f"{name}_seen"]
            value, weight = part.encoder(self.standard(name, batch[name], seen)).chunk(2, -1)
            share = seen.to(value.dtype).mean(-1, keepdim=True)
            precision = nn.functional.softplus(weight) * share
            shape = (*value.shape[:-1], self.n_latents)
            out.append(
                Evidence(
                    value.new_zeros(shape).index_copy(-1, part.which, value),
                    value.new_zeros(shape).index_copy(-1, part.which, precision),
                )
            )
        return out

    def infer(self, batch: Mapping[str, Tensor]) -> Posterior:
        """Return the encoders' posterior of the latents.

        Parameters
        ----------
        batch : mapping
            ``neural`` (B, T, unit), ``behavior`` (B, T, channel), and what is seen of them,
            ``neural_seen`` and ``behavior_seen``, bool; a modality that is nowhere seen, or not in
            the batch, says nothing.
        """
        if self.config.posterior == "dense":
            return self._infer_dense(batch)
        parts = self.encode(batch)
        present = [part.sees for _, part in self.shown(batch)]
        evidence = pool(parts, self.config.fusion, present)
        return from_evidence(evidence, self.whitened(evidence.value.shape[1]))

    def _infer_dense(self, batch: Mapping[str, Tensor]) -> Posterior:
        """Map each modality's bins to coefficients; join what both say of shared latents."""
        prior = prior_variance(self.frequency, self.length, self.config.jitter)
        found = []
        for name, part in self.shown(batch):
            seen = batch[f"{name}_seen"]
            value, log_sd = part.encoder(self.standard(name, batch[name], seen)).chunk(2, -1)
            mean, log_sd = self.maps[name](value, log_sd)
            shape = (len(mean), self.n_latents, mean.shape[-1])
            use = seen.any((1, 2))[:, None] & part.sees
            full = [mean.new_zeros(shape).index_copy(1, part.which, q) for q in (mean, log_sd)]
            found.append((use[..., None], *full))
        number = torch.stack([use for use, _, _ in found]).sum(0)
        mean = torch.stack([torch.where(use, m, 0.0) for use, m, _ in found])
        log_sd = torch.stack([torch.where(use, s, 0.0) for use, _, s in found])
        none = 0.5 * prior.log()  # a latent of which nothing is known has the prior
        if self.config.fusion == "average":
            share = number.clamp(min=1)
            mean, log_sd = mean.sum(0) / share, log_sd.sum(0) / share
        else:
            use = torch.stack([use for use, _, _ in found])
            precision = torch.where(use, (-2 * log_sd).exp(), 0.0)
            total = precision.sum(0)
            mean = (precision * mean).sum(0) / total.clamp(min=1e-12)
            log_sd = -0.5 * total.clamp(min=1e-12).log()
        log_sd = torch.where(number > 0, log_sd, none)
        return diagonal(mean, log_sd, prior, self.basis)

    def fit_terms(self, batch: Mapping[str, Tensor], q: Posterior) -> dict[str, Tensor]:
        """Return each modality's expected log-likelihood, nats, summed over the batch.

        Linear decoders are exact; others are evaluated at one draw of the latents.
        """
        out = {}
        for name, part in self.shown(batch):
            data, seen = batch[name], batch[f"{name}_seen"]
            if name == "neural" and part.linear and part.likelihood.family == "poisson":
                out[name] = -self._spikes(part, data, seen, q)
                continue
            if part.linear:
                eta, s = part.predictor(q.mean, q.variance)
            else:
                draw = q.mean + q.variance.clamp(min=1e-12).sqrt() * normal_like(q.mean)
                eta, s = part.predictor(draw, None)
            out[name] = part.likelihood.value(data, eta, s, seen).sum()
        return out

    def _spikes(self, part: Modality, counts: Tensor, seen: Tensor, q: Posterior) -> Tensor:
        weight, bias = part.matrix
        z, v = (x[..., part.which].flatten(0, 1) for x in (q.mean, q.variance))
        whole = seen.all(-1).flatten()  # units miss bins together, while training
        y = counts.flatten(0, 1)
        nll = poisson_lowrank_nll(z, weight, bias, v, y, mask=whole, reduction="sum")
        return nll + (torch.lgamma(y + 1).sum(-1) * whole).sum()

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return minus the bound and its terms, nats per bin."""
        q = self.infer(batch)
        terms = self.fit_terms(batch, q)
        n_bins = reduce_sum(batch["n_bins"].sum())
        bound = -q.divergence.sum()
        for name, value in terms.items():
            bound = bound + (self.start.weight if name == "behavior" else 1.0) * value
        named = {f"{name}_log_likelihood": value / n_bins for name, value in terms.items()}
        return {"loss": -bound / n_bins, **named, "divergence": q.divergence.sum() / n_bins}
