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
    told : (contact,), nats
        By how much the contact's signal raises the log chance of its own trial's class, when
        another trial is given it.
    z : (contact,)
        That, over its spread under shuffled classes of the signals.
    p : (contact,)
        Chance of as much under them.
    """

    weight: np.ndarray
    told: np.ndarray
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
def lent_chances(
    net: Classifier, bank: Bank, base: Index, donor: Index, trial: int, contact: int
) -> np.ndarray:
    """Return mean log chances of the classes under one contact's signal, (donor, class) nats.

    Each donor's signal is put into all base trials but itself, other contacts kept; a class's mean
    over donors is taken off.
    """
    lent = in_turn(bank, donor, trial)
    signals = torch.cat([b["x"][..., contact] for b in lent])
    total = np.zeros((len(donor), net.n_classes))
    number = np.zeros((len(donor), 1))
    for n in range(len(base)):
        own = bank.windows(base.start[n : n + 1], base.subject[n : n + 1], trial)
        found = []
        for part in signals.split(64):
            x = own["x"].expand(len(part), -1, -1).clone()
            x[..., contact] = part
            found.append(F.log_softmax(net(x, own["subject"].expand(len(part))).float(), -1))
        chance = torch.cat(found).cpu().numpy().astype(float)
        other = (donor.start != base.start[n])[:, None]
        total = total + np.where(other, chance - chance[other[:, 0]].mean(0), 0.0)
        number += other
    return total / np.maximum(number, 1)


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
        Trials that every trial lends each contact's signal to; 0 for no test.
    seed : int
        Of those trials, and of shuffles.

    Notes
    -----
    Under the null that the contact tells nothing of the class, the signals may swap their classes.
    Two other measures fell short on planted words. How much worse a trial is decoded without the
    contact's own signal also blames contacts that know no class: a decoder uses some to take noise
    off others. And of contacts that know the same each alone is hardly missed.
    """
    net.eval()
    weight = contact_weights(net, n_contacts)
    told, z, p = (np.full(len(weight), np.nan) for _ in range(3))
    first = 0
    for subject, n in enumerate(n_contacts):
        own = index.of(np.flatnonzero((index.subject == subject) & (index.y >= 0)))
        if n_exchanges and len(own) >= LEAST and len(np.unique(own.y)) > 1:
            rng = generator(seed, f"exchange-{subject}")
            base = own.of(np.sort(rng.permutation(len(own))[:n_exchanges]))
            shuffled = rng.permuted(np.tile(own.y, (SHUFFLES, 1)), axis=1)
            rows = np.arange(len(own))
            for contact in range(n):
                chance = lent_chances(net, bank, base, own, trial, contact)
                value = chance[rows, own.y].mean()
                null = chance[rows, shuffled].mean(1)
                at = first + contact
                told[at], z[at] = value, (value - null.mean()) / max(null.std(), 1e-30)
                p[at] = (1 + np.sum(null >= value - 1e-12)) / (1 + SHUFFLES)
        first += n
    return Contribution(weight, told, z, p)
