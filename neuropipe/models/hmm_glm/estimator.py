"""The HMM-GLM as an estimator: labelled arrays in, labelled arrays out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from neuropipe_kernels import viterbi

from neuropipe.batching.refusals import NO_SPIKE, say_undefined
from neuropipe.batching.sequences import Scaling, Stretch, held_out, training_sequences
from neuropipe.config import build
from neuropipe.errors import DataError, NotFittedError
from neuropipe.metrics import likelihood_scores
from neuropipe.models.hmm_glm.batches import basis_of, make_batch, source_of
from neuropipe.models.hmm_glm.config import REVISION, Config
from neuropipe.models.hmm_glm.faithful import fit_faithful
from neuropipe.models.hmm_glm.model import (
    Batch,
    Parameters,
    e_step,
    emission,
    fisher_errors,
    pad,
    unpad,
)
from neuropipe.models.hmm_glm.onehot import CATEGORIES
from neuropipe.models.hmm_glm.search import Outcome, choose_n_states, form_of, search
from neuropipe.runtime import float_policy, pick_device
from neuropipe.schema import Recording, Var
from neuropipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


class HMMGLM:
    """Hidden brain states, each with its own interactions between neurons.

    Counts of unit n in bin t are drawn from a GLM whose weights depend on a hidden Markov state
    z_t: mean f(b_n + sum_j W_z[n, j] h_tj + covariates), h the filtered history of unit j.

    Parameters
    ----------
    **settings
        Fields of `config.Config`.

    Attributes
    ----------
    parameters_ : Dataset
        What was learned: `learns`, with standard errors.
    history_ : Dataset
        ``objective (step)``, nats, ``seconds (step)``, and ``screen_objective (restart,
        screen_step)``, nats/bin of the part that restarts are screened on; attr ``converged``.

    Notes
    -----
    Source: Li et al., "One-hot generalized linear model for switching brain state discovery",
    ICLR 2024. The authors fit one sequence at a time by gradient; here EM uses all sequences, the
    initial state is learned, and the one-hot prior is fitted by empirical Bayes (`onehot`). The
    presets ``faithful_2024`` and ``faithful_2025`` keep the published objective and schedule.

    States are numbered by how much of the training time they take, the most frequent first.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = {
        "state_probability": Var(("time", "state"), "1", "f", "posterior of the state"),
        "state": Var(("time",), "1", "i", "most probable path (Viterbi)"),
        "window": Var(("time",), "1", "i", "window that the bin belongs to"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "weight": Var(("state", "unit", "source_unit", "basis"), "1", "f", "interactions"),
        "weight_se": Var(("state", "unit", "source_unit", "basis"), "1", "f", "standard errors"),
        "bias": Var(("state", "unit"), "1", "f", "baseline of the predictor"),
        "transition": Var(("state", "next_state"), "1", "f", "chance of each next state"),
        "initial": Var(("state",), "1", "f", "chance of each first state"),
        "occupancy": Var(("state",), "1", "f", "share of training time"),
        "mean_rate": Var(("state", "unit"), "Hz", "f", "mean training rate", optional=True),
        "edge_probability": Var(
            ("state", "unit", "source_unit", "category"), "1", "f", "of the edge", optional=True
        ),
        "edge_prior": Var(
            ("unit", "source_unit", "category"), "1", "f", "shared by the states", optional=True
        ),
    }

    def __init__(self, **settings: Any) -> None:
        self.config = build(Config, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Learn from the windows of one or several sessions.

        Parameters
        ----------
        recordings : sequence of DataTree
            Prepared sessions that share their units, each with node ``counts`` and, where a fold
            has set it, node ``windows``.
        seed : int
            Of the random restarts.
        device : str
            ``auto``, ``cpu`` or a CUDA device.
        checkpoint : Path, optional
            File that the fit resumes from and keeps its progress in.

        Raises
        ------
        DataError
            If the sessions share no unit, too few spikes are left, or a covariate is NaN.
        """
        config, source = self.config, source_of(self.config)
        parts, scaling = training_sequences(recordings, source)
        where = pick_device(device)
        batch = make_batch(parts, scaling, config, where, float_policy(where))
        kept = Checkpoint(checkpoint, self._fingerprint(batch, seed))
        log.info(
            "hmm_glm: %d units, %d bins in %d sequences, %s", len(scaling.unit), len(batch.counts),
            len(batch.lengths), where,
        )  # fmt: skip
        n_states, tried = self._n_states(batch, seed, kept)
        if config.preset == "default":
            outcome = search(batch, n_states, config, seed=seed, checkpoint=kept)
        else:
            outcome = fit_faithful(batch, n_states, config, seed=seed, checkpoint=kept)
        self._keep(outcome, scaling, batch, tried)
        return self

    def _n_states(
        self, batch: Batch, seed: int, checkpoint: Checkpoint
    ) -> tuple[int, tuple[Sequence[int], np.ndarray] | None]:
        numbers = self.config.n_states
        if isinstance(numbers, int):
            return numbers, None
        if len(batch.lengths) < 2:
            raise DataError(
                "hmm_glm: choosing the number of states needs at least 2 training windows, found 1;"
                " set window_s in the split, or give one number"
            )
        best, table = choose_n_states(batch, numbers, self.config, seed=seed, checkpoint=checkpoint)
        log.info("hmm_glm: %d states chosen from %s", best, list(numbers))
        return best, (numbers, table)

    def _fingerprint(self, batch: Batch, seed: int) -> str:
        digest = hashlib.sha256(f"{REVISION} {seed} {self.config.model_dump_json()}".encode())
        for tensor in batch:
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        return digest.hexdigest()

    def _keep(self, outcome: Outcome, scaling: Scaling, batch: Batch, tried: Any) -> None:
        """Order the states by occupancy and lay everything learned out as labelled arrays."""
        config = self.config
        posterior = e_step(batch, outcome.parameters, form_of(config, "none"))
        gamma = posterior.state_probability[:, 0].double() * batch.observed[:, None]
        share = gamma.sum(0) / gamma.sum()
        order = torch.argsort(share, descending=True)
        p = outcome.parameters
        self._parameters = Parameters(
            p.weight[:, order], p.bias[:, order], p.transition[:, order][:, :, order],
            p.initial[:, order], p.noise_std,
        )  # fmt: skip
        self._scaling = scaling
        gamma = gamma[:, order]
        course: dict[str, Any] = {
            "objective": ("step", outcome.fit.objective[:, 0].numpy(), {"units": "nats"})
        }
        if len(outcome.seconds) == len(outcome.fit.objective):  # not of a resumed fit
            course["seconds"] = ("step", np.asarray(outcome.seconds, float), {"units": "s"})
        if outcome.screened is not None:
            dims = ("restart", "screen_step")
            course["screen_objective"] = (dims, outcome.screened.T.numpy(), {"units": "nats/bin"})
        converged = int(bool(outcome.fit.converged.all()))
        self.history_ = xr.Dataset(course, attrs={"converged": converged})
        self.parameters_ = self._labelled(outcome, batch, gamma, order, share, tried)

    def _labelled(
        self, outcome: Outcome, batch: Batch, gamma: torch.Tensor, order: torch.Tensor,
        share: torch.Tensor, tried: Any,
    ) -> xr.Dataset:  # fmt: skip
        config, scaling, p = self.config, self._scaling, self._parameters
        basis = basis_of(config)
        n_units, n_basis = len(scaling.unit), basis.shape[1]
        n_history = n_units * n_basis
        if outcome.edges is not None:
            weight_se = outcome.edges.sd[order.cpu()].cpu()
        else:
            precision = 1 / config.ridge_sd**2
            if config.prior == "gaussian":
                precision += 1 / config.prior_sd**2
            weight_se, _ = fisher_errors(batch, p, gamma, form_of(config, "none"), precision)

        def array(tensor: torch.Tensor) -> np.ndarray:
            return tensor.detach().double().cpu().numpy()

        def split(values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
            full = array(values)
            shape = (*full.shape[:2], n_units, n_basis)
            return full[..., :n_history].reshape(shape), full[..., n_history:]

        (weight, covariate), (weight_se_, covariate_se) = split(p.weight[0]), split(weight_se)
        dims = ("state", "unit", "source_unit", "basis")
        one = {"units": "1"}
        variables: dict[str, Any] = {
            "weight": (dims, weight, one),
            "weight_se": (dims, weight_se_, one),
            "covariate_weight": (("state", "unit", "covariate"), covariate, one),
            "covariate_weight_se": (("state", "unit", "covariate"), covariate_se, one),
            "bias": (("state", "unit"), array(p.bias[0]), one),
            "transition": (("state", "next_state"), array(p.transition[0]), one),
            "initial": ("state", array(p.initial[0]), one),
            "occupancy": ("state", array(share[order]), one),
            "basis_function": (("lag", "basis"), basis, one),
        }
        if config.family != "gaussian" and np.isfinite(scaling.bin_width_s):
            counts = array(gamma.T @ batch.counts.double()) / array(gamma.sum(0))[:, None]
            variables["mean_rate"] = (
                ("state", "unit"), counts / scaling.bin_width_s, {"units": "Hz"},
            )  # fmt: skip
        if config.family == "gaussian":
            variables["noise_std"] = ("unit", array(p.noise_std[0]), one)
        attrs = {
            "family": config.family, "link": config.link, "prior": config.prior,
            "preset": config.preset, "bin_width_s": scaling.bin_width_s,
            "n_states": int(p.weight.shape[1]), "revision": REVISION,
        }  # fmt: skip
        coords: dict[str, Any] = {
            "unit": ("unit", scaling.unit, one),
            "source_unit": ("source_unit", scaling.unit, one),
            "covariate": ("covariate", np.array(config.covariates, dtype=object), one),
            "lag_s": ("lag", np.arange(1, len(basis) + 1) * scaling.bin_width_s, {"units": "s"}),
        }
        if outcome.edges is not None:
            edges = outcome.edges
            four = ("state", "unit", "source_unit", "category")
            variables["edge_probability"] = (four, array(edges.probability[order]), one)
            variables["edge_prior"] = (four[1:], array(edges.prior.category), one)
            coords["category"] = ("category", np.array(CATEGORIES, dtype=object), one)
            attrs["edge_strength"] = float(edges.prior.strength)
            attrs["edge_spread"] = float(edges.prior.variance) ** 0.5
        if tried is not None:
            numbers, table = tried
            variables["state_number_log_likelihood"] = (
                ("inner_fold", "n_states_tried"), table, {"units": "nats/bin"},
            )  # fmt: skip
            coords["n_states_tried"] = ("n_states_tried", np.asarray(numbers), one)
        return xr.Dataset(variables, coords, attrs)

    def _batch(self, recording: Recording) -> tuple[list[Stretch], Batch]:
        if not hasattr(self, "_parameters"):
            raise NotFittedError("HMMGLM: call fit (or load) before transform and score")
        parts = held_out(recording, source_of(self.config), self._scaling)
        like = self._parameters.weight
        return parts, make_batch(parts, self._scaling, self.config, like.device, like.dtype)

    def transform(self, recording: Recording) -> xr.Dataset:
        """Infer the states of a recording's windows.

        Returns
        -------
        Dataset
            ``state_probability (time, state)`` given the whole window, ``state (time)`` the most
            probable path, ``window (time)``; time in s from session start.
        """
        parts, batch = self._batch(recording)
        form = form_of(self.config, "none")
        probability = e_step(batch, self._parameters, form).state_probability[:, 0]
        path = viterbi(
            pad(emission(batch, self._parameters, form), batch.lengths),
            self._parameters.transition[0], self._parameters.initial[0], batch.lengths,
        ).state  # fmt: skip
        number = np.concatenate([np.full(len(s.time), s.window) for s in parts])
        return xr.Dataset(
            {
                "state_probability": (
                    ("time", "state"), probability.cpu().numpy().astype(np.float32), {"units": "1"},
                ),
                "state": ("time", unpad(path, batch.lengths).cpu().numpy(), {"units": "1"}),
                "window": ("time", number, {"units": "1"}),
            },
            {"time": ("time", np.concatenate([s.time for s in parts]), {"units": "s"})},
        )  # fmt: skip

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the held-out likelihood of a recording's windows, states summed out.

        Returns
        -------
        dict
            ``log_likelihood_per_bin`` and ``bits_per_spike``; for families without spikes
            ``bits_per_bin`` against a constant is left to the baselines' difference.
        """
        _, batch = self._batch(recording)
        evidence = float(e_step(batch, self._parameters, form_of(self.config, "none")).log_evidence)
        counts = batch.counts[batch.observed].double().cpu().numpy()
        if self.config.family == "poisson":
            scores = likelihood_scores(evidence, counts, self._scaling.rate)
            return say_undefined(scores, recording, NO_SPIKE)
        return {"log_likelihood_per_bin": evidence / max(len(counts), 1)}

    def save(self, path: Path) -> None:
        """Write ``config.json`` and ``weights.pt`` into a folder that exists."""
        if not hasattr(self, "_parameters"):
            raise NotFittedError("HMMGLM: nothing to save before fit")
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        scaling = self._scaling
        torch.save(
            {
                "parameters": tuple(p.cpu() for p in self._parameters),
                "unit": scaling.unit.tolist(),  # numbers or text
                "bin_width_s": scaling.bin_width_s,
                "subject": scaling.subject,
                "rate": torch.as_tensor(scaling.rate),
                "covariate_mean": torch.as_tensor(scaling.covariate_mean),
                "covariate_sd": torch.as_tensor(scaling.covariate_sd),
            },
            path / "weights.pt",
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; transform and score then work as after fit, on CPU."""
        config = Config.model_validate_json((path / "config.json").read_text())
        out = cls(**config.model_dump())
        saved = torch.load(path / "weights.pt", weights_only=True)
        out._parameters = Parameters(*saved["parameters"])
        out._scaling = Scaling(
            np.asarray(saved["unit"]), saved["bin_width_s"], saved["rate"].numpy(),
            saved["covariate_mean"].numpy(), saved["covariate_sd"].numpy(),
            saved.get("subject", ""),
        )  # fmt: skip
        return out
