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

FLIPS = 4999  # of signs, for p
LEAST = 4  # trials that a test needs


class Contribution(NamedTuple):
    """One number a contact, subjects one after another.

    Attributes
    ----------
    weight : (contact,)
        Mean size of the contact's weights; the largest of a subject is 1.
    loss : (contact,), nats
        How much worse a trial is decoded with the contact's signal of another trial.
    z : (contact,)
        That, over its standard error over trials.
    p : (contact,)
        Chance of as much under random signs.
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
    net: Classifier, bank: Bank, index: Index, trial: int, contact: int, order: np.ndarray
) -> np.ndarray:
    """Return each trial's loss with one contact's signal of the trial at `order`, (trial,) nats."""
    found = []
    first = 0
    for own in in_turn(bank, index, trial):
        n = len(own["x"])
        other = index.of(order[first : first + n])
        first += n
        x = own["x"].clone()
        x[..., contact] = bank.windows(other.start, other.subject, trial)["x"][..., contact]
        logits = net(x, own["subject"]).float()
        found.append(F.cross_entropy(logits, own["y"], reduction="none"))
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
        Of each contact; 0 for no test.
    seed : int
        Of exchanges and signs.

    Notes
    -----
    A contact's signal is exchanged between the trials of a subject, all other contacts kept, and a
    trial's loss is averaged over exchanges. Where the contact tells nothing of the class, the own
    signal is one like the others and the rise of the loss is as often below zero as above, so signs
    are drawn at random for the null. Contacts whose signals depend on each other within a class
    may take part in each other's rise.
    """
    net.eval()
    weight = contact_weights(net, n_contacts)
    loss, z, p = (np.full(len(weight), np.nan) for _ in range(3))
    first = 0
    for subject, n in enumerate(n_contacts):
        own = index.of(np.flatnonzero((index.subject == subject) & (index.y >= 0)))
        if n_exchanges and len(own) >= LEAST:
            rng = generator(seed, f"exchange-{subject}")
            orders = [_moved(len(own), rng) for _ in range(n_exchanges)]
            sign = rng.choice([-1.0, 1.0], (FLIPS, len(own)))
            still = np.arange(len(own))
            before = exchange_losses(net, bank, own, trial, 0, still)
            for contact in range(n):
                after = [exchange_losses(net, bank, own, trial, contact, o) for o in orders]
                rise = np.mean(after, 0) - before
                error = rise.std(ddof=1) / np.sqrt(len(rise))
                at = first + contact
                loss[at], z[at] = rise.mean(), rise.mean() / max(error, 1e-30)
                null = sign @ rise / len(rise)
                p[at] = (1 + np.sum(null >= rise.mean() - 1e-15)) / (1 + FLIPS)
        first += n
    return Contribution(weight, loss, z, p)


def _moved(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return an order in which nothing stays in its place."""
    order = rng.permutation(n)
    to = np.empty(n, dtype=np.int64)
    to[order] = np.roll(order, 1)
    return to
