"""Which contacts a decoder uses: the published weights, exchanges between trials, and chance."""

import numpy as np
import pytest
import torch
from torch import nn

from neuropipe.models.du_in.batches import Bank, Index
from neuropipe.models.du_in.contributions import contact_weights, contributions, lent_chances

TRIAL = 5


class Weighted(nn.Module):
    """A decoder of two classes whose evidence is a weighted sum of each contact's mean."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.n_classes = 2
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
    assert found.told[told].min() > found.told[~told].max()
    np.testing.assert_array_equal(found.weight, np.ones(6))


def test_a_contact_without_weight_gives_nothing():
    bank, index = drawn(20, 3, [0, 1, 2])
    found = contributions(Weighted(np.array([[1, 0, 1.0]])), bank, index, TRIAL, [3], 3, seed=1)
    assert (found.told[1], found.z[1], found.p[1]) == (0, 0, 1)


def test_chances_are_means_over_other_trials_less_the_usual_one():
    bank, index = drawn(6, 3, [0])
    net, base = Weighted(np.array([[0.5, -1, 2]])), index.of(np.array([4, 1]))
    got = lent_chances(net, bank, base, index, TRIAL, 2)
    found = np.full((6, 2, 2), np.nan)
    for k, trial in enumerate((4, 1)):
        for donor in set(range(6)) - {trial}:
            x = bank.value.view(6, TRIAL, 3)[trial].clone()
            x[:, 2] = bank.value.view(6, TRIAL, 3)[donor][:, 2]
            logits = net(x[None], torch.zeros(1, dtype=torch.long))
            found[donor, k] = nn.functional.log_softmax(logits, -1)[0].detach()
    found -= np.nanmean(found, 0)
    np.testing.assert_allclose(got, np.nanmean(found, 1), atol=1e-6)


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
    x, y = bank.value.view(60, TRIAL, 2), torch.as_tensor(index.y)
    mixed = torch.stack([x[..., 0], x[..., 1].roll(1, 0)], -1)
    losses = [
        nn.functional.cross_entropy(net(x, torch.zeros(60, dtype=torch.long)), y)
        for x in (x, mixed)
    ]
    assert losses[1] - losses[0] > 0.3  # the decoder does use it
    found = contributions(net, bank, index, TRIAL, [2], 20, seed=1)
    assert found.p[0] < 0.01
    assert found.p[1] > 0.05


def test_subjects_are_tested_apart_and_padding_is_left_out():
    bank, index = drawn(60, 4, [2], n_subjects=2)
    weight = np.array([[1, -2, 4, 9.0], [3, 1, 6, 2]])
    found = contributions(Weighted(weight), bank, index, TRIAL, [3, 4], 12, seed=1)
    assert found.told.shape == (7,)
    np.testing.assert_allclose(found.weight, [0.25, 0.5, 1, 0.5, 1 / 6, 1, 1 / 3])
    assert np.argsort(found.told)[-2:].tolist() in ([2, 5], [5, 2])
    scores = contact_weights(Weighted(weight), [3, 4])
    np.testing.assert_allclose(scores, found.weight)


def test_too_few_trials_or_no_exchange_give_no_test():
    bank, index = drawn(3, 2, [0])
    net = Weighted(np.ones((1, 2)))
    assert np.isnan(contributions(net, bank, index, TRIAL, [2], 5, seed=1).p).all()
    bank, index = drawn(30, 2, [0])
    assert np.isnan(contributions(net, bank, index, TRIAL, [2], 0, seed=1).p).all()
