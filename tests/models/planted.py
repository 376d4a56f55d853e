"""Planted sessions as batches, and how far a fit is from the parameters that drew them."""

from dataclasses import dataclass

import numpy as np
import torch

from neuropipe.batching.history import filter_history, history_basis
from neuropipe.metrics import match_labels
from neuropipe.models.hmm_glm.config import Config
from neuropipe.models.hmm_glm.model import Batch, Form, Parameters, e_step
from neuropipe.models.hmm_glm.search import search
from neuropipe.models.hmm_glm.simulate import Plan, draw
from neuropipe.training.checkpoint import Checkpoint

FORM = Form(link="sigmoid", share_bias=True)


def batch_of(counts: np.ndarray) -> Batch:
    """Lay sequences (sequence, bin, unit) end to end."""
    basis = history_basis("exponential", 5, 1)
    features = np.concatenate([filter_history(s, basis) for s in counts])
    return Batch(
        torch.as_tensor(features),
        torch.as_tensor(counts.reshape(-1, counts.shape[2])),
        torch.ones(len(features), dtype=torch.bool),
        torch.full((len(counts),), counts.shape[1]),
    )


@dataclass
class Planted:
    """One draw: training and held-out sequences, and the oracle's likelihood of the latter."""

    train: Batch
    test: Batch
    test_state: np.ndarray
    truth: dict
    oracle: float
    oracle_accuracy: float


def plant(seed: int, n_train: int, n_test: int = 20, **plan) -> Planted:
    """Draw a session; the first sequences train."""
    planned = Plan(n_sequences=n_train + n_test, **plan)
    counts, state, truth = draw(planned, seed)
    test = batch_of(counts[n_train:])
    n_states, n_units = truth["weight"].shape[:2]
    exact = Parameters(
        torch.as_tensor(truth["weight"])[None],
        torch.as_tensor(np.broadcast_to(truth["bias"], (n_states, n_units)).copy())[None],
        torch.as_tensor(truth["transition"])[None],
        torch.full((1, n_states), 1 / n_states, dtype=torch.float64),
        torch.ones(1, n_units, dtype=torch.float64),
    )
    posterior = e_step(test, exact, FORM)
    test_state = state[n_train:].ravel()
    guess = posterior.state_probability[:, 0].argmax(-1).numpy()
    return Planted(
        batch_of(counts[:n_train]), test, test_state, truth,
        float(posterior.log_evidence) / len(test_state), float(np.mean(guess == test_state)),
    )  # fmt: skip


def fit(planted: Planted, prior: str, *, seed: int = 0, n_states: int | None = None, **settings):
    """Fit as the estimator does, on tensors."""
    config = Config(prior=prior, link="sigmoid", share_bias=True, **settings)
    wanted = n_states or planted.truth["weight"].shape[0]
    checkpoint = Checkpoint(None, "")
    return search(planted.train, wanted, config, seed=seed, checkpoint=checkpoint)


def compare(planted: Planted, outcome) -> dict[str, float]:
    """Return the levels of the acceptance table, states matched on held-out data."""
    p = outcome.parameters
    posterior = e_step(planted.test, p, FORM)
    n_states = p.weight.shape[1]
    guess = posterior.state_probability[:, 0].argmax(-1).numpy()
    gap = planted.oracle - float(posterior.log_evidence) / len(guess)
    if n_states != planted.truth["weight"].shape[0]:
        return {"gap": gap}
    order = match_labels(planted.test_state, guess, n_states)
    weight = np.empty_like(planted.truth["weight"])
    weight[order] = p.weight[0].numpy()
    truth = planted.truth["weight"]
    transition = np.empty((n_states, n_states))
    transition[np.ix_(order, order)] = p.transition[0].numpy()
    accuracy = float(np.mean(order[guess] == planted.test_state))
    out = {
        "gap": gap,
        "accuracy_lost": planted.oracle_accuracy - accuracy,
        "accuracy": accuracy,
        "correlation": float(np.corrcoef(weight.ravel(), truth.ravel())[0, 1]),
        "rmse": float(np.sqrt(np.mean((weight - truth) ** 2))),
        "transition_error": float(np.abs(transition - planted.truth["transition"]).max()),
    }
    if outcome.edges is not None:
        category = np.empty(truth.shape, dtype=int)
        category[order] = outcome.edges.probability.argmax(-1).cpu().numpy() - 1
        out["adjacency"] = float(np.mean(category == planted.truth["adjacency"]))
        out["all_none"] = float(np.mean(planted.truth["adjacency"] == 0))
    return out
