"""Which contacts a decoder uses: the published weights, exchanges between trials, and chance."""

import numpy as np
import pytest
import torch
from torch import nn

from neuropipe.models.du_in.batches import Bank, Index
from neuropipe.models.du_in.contributions import (
    contact_weights,
    contributions,
    excess,
    exchange_losses,
)

TRIAL = 5


class Weighted(nn.Module):
    """A decoder of two classes whose evidence is a weighted sum of each contact's mean."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.spatial = nn.Module()
        self.encoder.spatial.weight = nn.Parameter(torch.as_tensor(weight)[..., None].float())

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        evidence = (x.mean(1) * self.encoder.spatial.weight[subject, :, 0]).sum(1)
        return torch.stack([-evidence, evidence], 1)


def drawn(n: int, n_contacts: int, tells: list[int], n_subjects: int = 1, seed: int = 0):
    rng = np.random.default_rng(seed)
    y, subject = rng.integers(2, size=n), np.arange(n) % n_subjects
    level = rng.normal(size=(n, n_contacts))
    level[:, tells] += 2 * (2 * y[:, None] - 1)
    value = np.repeat(level, TRIAL, axis=0)
    present = torch.ones(n_subjects, n_contacts, dtype=torch.bool)
    bank = Bank(torch.as_tensor(value).float(), present, tuple("ab"[:n_subjects]))
    start = np.arange(n) * TRIAL
    return bank, Index(start, subject, np.zeros(n, int), y)


def test_contacts_that_tell_are_found_and_others_are_not():
    bank, index = drawn(40, 6, [1, 4])
    found = contributions(Weighted(np.ones((1, 6))), bank, index, TRIAL, [6], 20, seed=1)
    told = np.isin(np.arange(6), [1, 4])
    assert found.p[told].max() < 0.01
    assert found.p[~told].min() > 0.05
    assert found.z[told].min() > 3 > found.z[~told].max()
    assert found.loss[told].min() > found.loss[~told].max()
    np.testing.assert_array_equal(found.weight, np.ones(6))


def test_a_contact_without_weight_gives_nothing():
    bank, index = drawn(20, 3, [0, 1, 2])
    found = contributions(Weighted(np.array([[1, 0, 1.0]])), bank, index, TRIAL, [3], 3, seed=1)
    assert (found.loss[1], found.z[1], found.p[1]) == (0, 0, 1)


def test_exchange_is_the_loss_with_the_other_trials_signal():
    bank, index = drawn(6, 3, [0])
    net, lending = Weighted(np.array([[0.5, -1, 2]])), np.array([4, 1])
    got = exchange_losses(net, bank, index, TRIAL, 2, index.of(lending))
    for n, j in enumerate(lending):
        x = bank.value.view(6, TRIAL, 3).clone()
        x[:, :, 2] = x[j][:, 2]
        logits = net(x, torch.zeros(6, dtype=torch.long))
        want = nn.functional.cross_entropy(logits, torch.as_tensor(index.y), reduction="none")
        np.testing.assert_allclose(got[:, n], want.detach(), rtol=1e-6)


def test_excess_is_a_difference_of_two_means():
    rng = np.random.default_rng(0)
    cost, y, lending = rng.normal(size=(9, 4)), np.arange(9) % 3, np.array([0, 4, 5, 7])
    kept = np.arange(9)[:, None] != lending
    centred = cost - np.array([[row[k].mean()] for row, k in zip(cost, kept, strict=True)])
    alike = (y[:, None] == y[lending]) & kept
    want = centred[kept & ~alike].mean() - centred[alike].mean()
    assert excess(cost, kept, y, y[lending][None])[0] == pytest.approx(want)


def test_noise_is_called_out_as_often_as_chance_says():
    rng = np.random.default_rng(3)
    bank, index = drawn(30, 200, [], seed=5)
    weight = 0.2 * rng.normal(size=(1, 200))
    found = contributions(Weighted(weight), bank, index, TRIAL, [200], 12, seed=1)
    assert np.mean(found.p < 0.05) < 0.12
    assert np.mean(found.p) == pytest.approx(0.5, abs=0.12)


def test_a_contact_that_only_takes_noise_off_another_tells_nothing():
    bank, index = drawn(60, 2, [0], seed=2)
    shared = np.repeat(np.random.default_rng(4).normal(size=60), TRIAL)
    bank.value[:] += 2 * torch.as_tensor(shared).float()[:, None]
    net = Weighted(np.array([[1, -1.0]]))
    own = exchange_losses(net, bank, index, TRIAL, 1, index)
    assert own.mean() - own.diagonal().mean() > 0.3  # the decoder does use it
    found = contributions(net, bank, index, TRIAL, [2], 20, seed=1)
    assert found.p[0] < 0.01
    assert found.p[1] > 0.05


def test_subjects_are_tested_apart_and_padding_is_left_out():
    bank, index = drawn(60, 4, [2], n_subjects=2)
    weight = np.array([[1, -2, 4, 9.0], [3, 1, 6, 2]])
    found = contributions(Weighted(weight), bank, index, TRIAL, [3, 4], 12, seed=1)
    assert found.loss.shape == (7,)
    np.testing.assert_allclose(found.weight, [0.25, 0.5, 1, 0.5, 1 / 6, 1, 1 / 3])
    assert np.argsort(found.loss)[-2:].tolist() in ([2, 5], [5, 2])
    scores = contact_weights(Weighted(weight), [3, 4])
    np.testing.assert_allclose(scores, found.weight)


def test_too_few_trials_or_no_exchange_give_no_test():
    bank, index = drawn(3, 2, [0])
    net = Weighted(np.ones((1, 2)))
    assert np.isnan(contributions(net, bank, index, TRIAL, [2], 5, seed=1).p).all()
    bank, index = drawn(30, 2, [0])
    assert np.isnan(contributions(net, bank, index, TRIAL, [2], 0, seed=1).p).all()
