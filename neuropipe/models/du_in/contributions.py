"""Which contacts the classes come from: weights as published, and exchanges between trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from neuropipe.models.du_in.batches import Bank, Index, in_turn
from neuropipe.models.du_in.model import Classifier
from neuropipe.runtime import generator

SHUFFLES = 4999  # of the classes, for p
LEAST = 4  # trials that a test needs


class Contribution(NamedTuple):
    """One number a contact, subjects one after another.

    Attributes
    ----------
    weight : (contact,)
        Mean size of the contact's weights; the largest of a subject is 1.
    loss : (contact,), nats
        How much worse a trial is decoded with the contact's signal of a trial of another class
        than with that of another trial of its own.
    z : (contact,)
        That, over its spread under random classes of the trials that lend the signal.
    p : (contact,)
        Chance of as much under them.
    """

    weight: np.ndarray
    loss: np.ndarray
    z: np.ndarray
    p: np.ndarray


def contact_weights(net: Classifier, n_contacts: Sequence[int]) -> np.ndarray:
    """Return the published score: mean |W| over hidden channels, over the subject's largest.

    Notes
    -----
    The authors reshape weights of several subjects without turning them, which scrambles contacts;
    not so here.
    """
    size = net.encoder.spatial.weight.detach().abs().mean(2).cpu().numpy()
    parts = [row[:n] / max(float(row[:n].max()), 1e-30)
             for row, n in zip(size, n_contacts, strict=True)]  # fmt: skip
    return np.concatenate(parts)


@torch.no_grad()
def exchange_losses(
    net: Classifier, bank: Bank, index: Index, trial: int, contact: int, donor: Index
) -> np.ndarray:
    """Return each trial's loss with a contact's signal of each donor, (trial, donor) nats."""
    lent = bank.windows(donor.start, donor.subject, trial)["x"][..., contact]
    found = []
    for own in in_turn(bank, index, trial):
        losses = []
        for signal in lent:
            x = own["x"].clone()
            x[..., contact] = signal
            logits = net(x, own["subject"]).float()
            losses.append(F.cross_entropy(logits, own["y"], reduction="none"))
        found.append(torch.stack(losses, 1))
    return torch.cat(found).cpu().numpy().astype(float)


def contributions(
    net: Classifier,
    bank: Bank,
    index: Index,
    trial: int,
    n_contacts: Sequence[int],
    n_exchanges: int,
    *,
    seed: int,
) -> Contribution:
    """Say for every contact whether the decoder uses it on trials that it was not fitted on.

    Parameters
    ----------
    net : Classifier
    bank : Bank
    index : Index
        Trials with a class, not fitted on.
    trial : int
        Samples of a trial.
    n_contacts : sequence of int
        Of each subject.
    n_exchanges : int
        Trials that lend each contact's signal to all others; 0 for no test.
    seed : int
        Of the trials that lend, and of shuffles.

    Notes
    -----
    A contact's signal is taken from other trials of the subject, all other contacts kept, and what
    it costs to take it from another class, over the own one, is the contribution. Under the null
    that the contact tells nothing of the class, the lending trials may swap classes. Against the
    trial as it was, even contacts that know no class make it worse: signals of one moment fit each
    other, and a decoder uses some to take noise off others.
    """
    net.eval()
    weight = contact_weights(net, n_contacts)
    loss, z, p = (np.full(len(weight), np.nan) for _ in range(3))
    first = 0
    for subject, n in enumerate(n_contacts):
        own = index.of(np.flatnonzero((index.subject == subject) & (index.y >= 0)))
        if n_exchanges and len(own) >= LEAST:
            rng = generator(seed, f"exchange-{subject}")
            lending = _in_turn_of_class(own.y, rng)[:n_exchanges]
            donor = own.of(lending)
            kept = np.arange(len(own))[:, None] != lending
            shuffled = rng.permuted(np.tile(donor.y, (SHUFFLES, 1)), axis=1)
            for contact in range(n):
                cost = exchange_losses(net, bank, own, trial, contact, donor)
                value = excess(cost, kept, own.y, donor.y[None])[0]
                null = excess(cost, kept, own.y, shuffled)
                at = first + contact
                loss[at], z[at] = value, (value - null.mean()) / max(null.std(), 1e-30)
                p[at] = (1 + np.sum(null >= value - 1e-12)) / (1 + SHUFFLES)
        first += n
    return Contribution(weight, loss, z, p)


def excess(cost: np.ndarray, kept: np.ndarray, y: np.ndarray, donor_y: np.ndarray) -> np.ndarray:
    """Return mean cost of signals of other classes, less that of the own one, (labelling,).

    Parameters
    ----------
    cost : (trial, donor)
    kept : (trial, donor) bool
        False where a trial would be its own donor.
    y : (trial,)
    donor_y : (labelling, donor)
        NaN is returned for a labelling under which no pair is alike, or none is not.
    """
    number = np.maximum(kept.sum(1, keepdims=True), 1)
    centred = np.where(kept, cost - np.where(kept, cost, 0).sum(1, keepdims=True) / number, 0)
    classes = np.unique(np.concatenate([y, donor_y.ravel()]))
    member = (y == classes[:, None]).astype(float)
    row, column = np.searchsorted(classes, donor_y), np.arange(cost.shape[1])
    alike = (member @ kept)[row, column].sum(1)
    total = (member @ centred)[row, column].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return -total / (kept.sum() - alike) - total / alike


def _in_turn_of_class(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random order of trials in which each class comes about equally often, early on."""
    order = rng.permutation(len(y))
    nth = np.zeros(len(y), dtype=int)
    for label in np.unique(y):
        own = order[y[order] == label]
        nth[own] = np.arange(len(own))
    return order[np.argsort(nth[order], kind="stable")]
