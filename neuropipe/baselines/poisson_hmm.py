"""A plain HMM: hidden states with constant Poisson rates, no interactions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from neuropipe_kernels import hmm_fb, viterbi

from neuropipe.baselines.config import HMMConfig
from neuropipe.baselines.weights import load_arrays, save_arrays
from neuropipe.batching.refusals import NO_SPIKE, refuse_unfitted, say_undefined
from neuropipe.batching.sequences import Source, Stretch, held_out, training_sequences
from neuropipe.config import build
from neuropipe.metrics import likelihood_scores
from neuropipe.runtime import generator
from neuropipe.schema import Recording, Var

log = logging.getLogger(__name__)
DWELL = 50  # bins that a random start gives to one state at a time


class PoissonHMM:
    """Baum-Welch with Poisson emissions, all restarts together, the best one kept.

    Parameters
    ----------
    **settings
        Fields of `HMMConfig`.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = {
        "state_probability": Var(("time", "state"), "1", "f", "posterior of the state"),
        "state": Var(("time",), "1", "i", "most probable path"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "rate": Var(("state", "unit"), "Hz", "f", "rates"),
        "transition": Var(("state", "next_state"), "1", "f", "chance of each next state"),
        "initial": Var(("state",), "1", "f", "chance of each first state"),
    }

    def __init__(self, **settings: Any) -> None:
        self.config = build(HMMConfig, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Fit by EM from random sticky segmentations, on CPU."""
        c = self.config
        n_states = c.n_states if isinstance(c.n_states, int) else max(c.n_states)
        parts, self._scaling = training_sequences(recordings, self._source())
        counts, observed, lengths = _padded(parts)
        rng = generator(seed, "restarts")
        found = [self._climb(counts, observed, lengths, n_states, rng) for _ in range(c.n_restarts)]
        self._rate, self._transition, self._initial, trace, done = max(
            found, key=lambda f: f[3][-1]
        )
        self.history_ = xr.Dataset(
            {"objective": ("step", np.array(trace), {"units": "nats"})},
            attrs={"converged": int(done)},
        )
        return self

    def _climb(
        self, counts: torch.Tensor, observed: torch.Tensor, lengths: torch.Tensor, n_states: int,
        rng: np.random.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[float], bool]:  # fmt: skip
        c = self.config
        shape = (counts.shape[0], counts.shape[1] // DWELL + 1)
        label = torch.as_tensor(rng.integers(n_states, size=shape))
        label = label.repeat_interleave(DWELL, 1)[:, : counts.shape[1]]
        gamma = torch.nn.functional.one_hot(label, n_states).double() * observed[..., None]
        transition = torch.full((n_states, n_states), 0.02 / max(n_states - 1, 1)).double()
        transition.fill_diagonal_(0.98 if n_states > 1 else 1.0)
        initial = torch.full((n_states,), 1 / n_states).double()
        n_bins, trace = float(observed.sum()), []
        constant = log_factorials(counts)
        for _ in range(c.max_iterations):
            rate = rates(gamma, counts, self._mean())
            emission = log_emission(counts, observed, rate, constant)
            posterior = hmm_fb(emission, transition, initial, lengths)
            trace.append(float(posterior.log_evidence.sum()))
            if len(trace) > 1 and trace[-1] - trace[-2] < c.tolerance * n_bins:
                return rate, transition, initial, trace, True
            gamma = posterior.state_probability * observed[..., None]
            transition = posterior.transition_count.sum(0) + c.pseudo_count
            transition = transition / transition.sum(1, keepdim=True)
            initial = posterior.state_probability[:, 0].sum(0) + c.pseudo_count
            initial = initial / initial.sum()
        return rate, transition, initial, trace, False

    def _mean(self) -> torch.Tensor:
        return torch.as_tensor(self._scaling.rate)

    def _source(self) -> Source:
        c = self.config
        return Source("counts", None, c.gaps, c.missing_covariates, c.min_spikes)

    @property
    def parameters_(self) -> xr.Dataset:
        """Rates and chain."""
        rate = self._rate.numpy() / self._scaling.bin_width_s
        return xr.Dataset(
            {
                "rate": (("state", "unit"), rate, {"units": "Hz"}),
                "transition": (("state", "next_state"), self._transition.numpy(), {"units": "1"}),
                "initial": ("state", self._initial.numpy(), {"units": "1"}),
            },
            {"unit": ("unit", self._scaling.unit, {"units": "1"})},
        )

    def _read(self, recording: Recording) -> tuple[list[Stretch], torch.Tensor, torch.Tensor,
                                                   torch.Tensor]:  # fmt: skip
        refuse_unfitted(self, "_scaling")
        parts = held_out(recording, self._source(), self._scaling)
        return parts, *_padded(parts)

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``state_probability (time, state)`` and ``state (time)`` of the windows."""
        parts, counts, observed, lengths = self._read(recording)
        emission = log_emission(counts, observed, self._rate, log_factorials(counts))
        chain = (self._transition, self._initial, lengths)
        inside = torch.arange(counts.shape[1]) < lengths[:, None]
        probability = hmm_fb(emission, *chain).state_probability[inside]
        return xr.Dataset(
            {
                "state_probability": (("time", "state"), probability.numpy(), {"units": "1"}),
                "state": ("time", viterbi(emission, *chain).state[inside].numpy(), {"units": "1"}),
            },
            {"time": ("time", np.concatenate([p.time for p in parts]), {"units": "s"})},
        )

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the likelihood of the windows, states summed out."""
        parts, counts, observed, lengths = self._read(recording)
        emission = log_emission(counts, observed, self._rate, log_factorials(counts))
        evidence = hmm_fb(emission, self._transition, self._initial, lengths).log_evidence.sum()
        seen = np.concatenate([p.counts[p.observed] for p in parts])
        scores = likelihood_scores(float(evidence), seen, self._scaling.rate)
        return say_undefined(scores, recording, NO_SPIKE)

    def save(self, path: Path) -> None:
        """Write the fitted baseline into a folder."""
        refuse_unfitted(self, "_scaling")
        arrays = {n: getattr(self, f"_{n}").numpy() for n in ("rate", "transition", "initial")}
        save_arrays(path, self.config, self._scaling, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        config, scaling, arrays = load_arrays(path)
        out = cls(**HMMConfig.model_validate_json(config).model_dump())
        out._scaling = scaling
        for name, value in arrays.items():
            setattr(out, f"_{name}", torch.as_tensor(value))
        return out


def _padded(parts: Sequence[Stretch]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return counts (sequence, bin, unit), observed (sequence, bin) and lengths (sequence,)."""
    counts = torch.nn.utils.rnn.pad_sequence(
        [torch.as_tensor(p.counts) for p in parts], batch_first=True
    )
    observed = torch.nn.utils.rnn.pad_sequence(
        [torch.as_tensor(p.observed) for p in parts], batch_first=True
    )
    return counts, observed, torch.tensor([len(p.time) for p in parts])


def rates(gamma: torch.Tensor, counts: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return the M-step's rates (state, unit); one bin at the mean keeps a silent unit possible.

    Shapes: gamma (sequence, bin, state), counts (sequence, bin, unit), mean (unit,), all per bin.
    """
    flat = gamma.flatten(0, 1)
    return (flat.T @ counts.flatten(0, 1) + mean) / (flat.sum(0)[:, None] + 1)


def log_factorials(counts: torch.Tensor) -> torch.Tensor:
    """Return the part of the log-likelihood that no parameter enters, (sequence, bin, 1)."""
    return torch.lgamma(counts + 1).sum(2, keepdim=True)


def log_emission(
    counts: torch.Tensor, observed: torch.Tensor, rate: torch.Tensor, constant: torch.Tensor
) -> torch.Tensor:
    """Return log p(counts | state), (sequence, bin, state), zero where nothing was observed."""
    value = counts @ rate.log().T - rate.sum(1) - constant
    return value * observed[..., None]
