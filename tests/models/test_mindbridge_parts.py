"""MindBridge's parts: losses against loops, pooling, published sizes, closed forms, the start."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from neuropipe.models.mindbridge import losses, start
from neuropipe.models.mindbridge.aggregate import pool
from neuropipe.models.mindbridge.batches import targets_of
from neuropipe.models.mindbridge.bridging import set_base, set_linear
from neuropipe.models.mindbridge.learned import part_sizes
from neuropipe.models.mindbridge.model import Bridge, Form, n_parameters

NSD = (15724, 14278, 13039, 12682)  # voxels of subjects 1, 2, 5, 7
PAPER = Form("max", 8192, 2048, 128, 4, 0.5, 0.15, 257 * 768, 77 * 768, None, True, False)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def looped_clip(p, t, temperature):
    """SoftCLIP as it is written down, entry by entry."""
    p, n = unit(p), len(p)
    total = 0.0
    for logits in ((p @ t.T) / temperature, ((p @ t.T) / temperature).T):
        for i in range(n):
            wanted = [math.exp(float(t[i] @ t[j] - 1) / temperature) for j in range(n)]
            norm = torch.logsumexp(logits[i], 0)
            for j in range(n):
                total = total - wanted[j] / sum(wanted) * (logits[i, j] - norm) / (2 * n)
    return total


@pytest.mark.parametrize("temperature", [0.005, 0.2])
def test_soft_clip_and_mse_are_the_plain_formulas_and_so_are_their_gradients(temperature):
    p, t = drawn(6, 9).requires_grad_(), unit(drawn(6, 9, seed=1))
    pt, tt = losses.cosines(p, t)
    found = losses.soft_clip(pt, tt, temperature)
    expected = looped_clip(p, t, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    [a], [b] = (torch.autograd.grad(x, p, retain_graph=True) for x in (found, expected))
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    mse, plain = losses.unit_mse(pt, 9), ((unit(p) - t) ** 2).mean()
    torch.testing.assert_close(mse, plain)
    [a], [b] = (torch.autograd.grad(x, p, retain_graph=True) for x in (mse, plain))
    torch.testing.assert_close(a, b)
    single = losses.soft_clip(*losses.cosines(p.detach().float(), t.float()), temperature)
    torch.testing.assert_close(single.double(), expected.detach(), rtol=1e-5, atol=1e-5)


def test_cosines_are_not_rounded_in_mixed_precision():
    weight, t = drawn(9, 9, dtype=torch.float32), unit(drawn(6, 9, seed=1)).float()
    with torch.autocast("cpu", torch.bfloat16):
        p = t @ weight  # as a head would give it
        found = losses.soft_clip(*losses.cosines(p, t), 0.005)
    assert p.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    expected = looped_clip(p.double(), t.double(), 0.005)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_mixco_is_the_weighted_sum_of_two_hard_losses():
    p, t = drawn(5, 7), unit(drawn(5, 7, seed=1))
    weight = torch.tensor([1.0, 0.3, 0.6, 1.0, 0.9], dtype=torch.float64)
    other = torch.tensor([3, 2, 1, 0, 1])
    logit = losses.cosines(p, t)[0] / 0.1
    total = 0.0
    for i in range(5):
        row = torch.log_softmax(logit[i], 0)
        total -= weight[i] * row[i] + (1 - weight[i]) * row[other[i]]
        column = torch.log_softmax(logit[:, i], 0)
        total -= weight[i] * column[i]
        total -= sum((1 - weight[j]) * column[j] for j in range(5) if other[j] == i)
    found = losses.mix_clip(logit * 0.1, weight, other, 0.1)
    torch.testing.assert_close(found, total / 10)
    torch.manual_seed(0)
    x = drawn(64, 3)
    mixed, weight, other = losses.mix(x, 0.15, 0.5)
    torch.testing.assert_close(mixed, weight[:, None] * x + (1 - weight[:, None]) * x[other])
    assert 20 < int((weight == 1).sum()) < 50


def test_bins_cover_the_voxels_that_the_formula_says():
    x = drawn(2, 23)
    edges = [(i * 23 // 8, -(-(i + 1) * 23 // 8)) for i in range(8)]
    for how, reduce in (("max", torch.amax), ("average", torch.mean)):
        expected = torch.stack([reduce(x[:, a:b], 1) for a, b in edges], 1)
        torch.testing.assert_close(pool(x, 8, how), expected)
    ramp = torch.arange(12, dtype=torch.float64)[None]
    torch.testing.assert_close(pool(ramp, 4, "resize"), torch.tensor([[1.0, 4, 7, 10]]).double())
    assert pool(x.reshape(1, 2, 23), 8, "max").shape == (1, 2, 8)


def test_parameters_are_as_many_as_published():
    with torch.device("meta"):
        four = Bridge(PAPER, NSD)
        alone = Bridge(Form(**{**vars(PAPER), "builds": False}), NSD[:1])
    sizes = part_sizes(four)
    assert round(sizes["embedders"] / 4e6, 3) == 18.889
    assert round(sizes["builders"] / 4e6, 3) == 18.907
    assert round(sizes["translator"] / 1e6, 2) == 16.80
    assert round(n_parameters(four.heads["image"]) / 1e6, 2) == 404.42
    assert round(n_parameters(four.heads["text"]) / 1e6, 2) == 121.17
    assert round(n_parameters(four) / 1e6, 2) == 693.58
    assert round(n_parameters(alone) / 1e6, 2) == 561.28
    with torch.device("meta"):
        narrow = Bridge(Form(**{**vars(PAPER), "head_rank": 64}), NSD)
    assert part_sizes(narrow)["heads"] == 2 * 2048 * 64 + 65 * (257 + 77) * 768


def world(n=60, n_voxels=40, n_features=25, seed=0):
    rng = np.random.default_rng(seed)
    t = rng.normal(size=(n, 6)) @ rng.normal(size=(6, n_features)) + rng.normal(size=n_features)
    t = unit(torch.as_tensor(t))
    x = t @ drawn(n_features, n_voxels, seed=seed + 1) * 3 + drawn(n, n_voxels, seed=seed + 2)
    return t, x


@pytest.mark.parametrize("wide", [False, True])
def test_components_are_those_of_a_singular_value_decomposition(wide):
    t, _ = world(12 if wide else 60)
    found = start.components(t, 20)
    centred = (t - t.mean(0)).numpy()
    length = np.linalg.svd(centred, compute_uv=False)
    n = int((length > 1e-3 * length[0]).sum())
    assert len(found.sd) == min(20, n)
    np.testing.assert_allclose(found.sd * len(t) ** 0.5, length[: len(found.sd)], rtol=1e-6)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(len(found.sd)), atol=1e-6)
    np.testing.assert_allclose(found.of(t).square().mean(0), 1, rtol=1e-6)


@pytest.mark.parametrize("n_voxels", [40, 90])
def test_ridge_is_scikit_learns(n_voxels):
    t, x = world(n_voxels=n_voxels)
    found = start.components(t, 30)
    z = found.of(t)
    for alpha, decode in zip(start.RIDGE, start.ridges(z - z.mean(0), x - x.mean(0)), strict=True):
        theirs = Ridge(alpha=alpha * n_voxels).fit(x.numpy(), z.numpy())
        np.testing.assert_allclose(decode, theirs.coef_.T, rtol=1e-6, atol=1e-9)
    [kind] = start.choices([start.compared(z, x, found.sd, [], ["ridge"])])
    linear = start.fit_linear(z, x, [], kind)
    alpha = float(linear.kind.split()[1]) * n_voxels
    theirs = Ridge(alpha=alpha).fit(x.numpy(), t.numpy())
    ours = ((x @ linear.decode + linear.decode_offset) * found.sd) @ found.basis.T + found.mean
    np.testing.assert_allclose(ours, theirs.predict(x.numpy()), atol=1e-6)


@pytest.mark.parametrize("n_voxels", [40, 90])
def test_inversion_is_the_posterior_of_its_model(n_voxels):
    t, x = world(n_voxels=n_voxels)
    found = start.components(t, 5)
    z, x = found.of(t), x - x.mean(0)
    root = drawn(len(found.sd), len(found.sd), seed=9)
    prior = root @ root.T + torch.eye(len(root))
    encode = start.encoding(z, x, prior, 1.0)
    level = (z @ prior @ z.T).trace() / len(z)
    dense = prior @ z.T @ torch.linalg.inv(z @ prior @ z.T + level * torch.eye(len(z))) @ x
    torch.testing.assert_close(encode, dense, rtol=1e-6, atol=1e-8)
    residual = x - z @ encode
    cov = residual.T @ residual / len(x)
    noise = 0.7 * cov + 0.3 * torch.diag(torch.diagonal(cov))
    joint = torch.linalg.inv(encode.T @ encode + noise)
    posterior = joint @ encode.T  # of z ~ N(0, 1), in the form of its joint covariance with x
    torch.testing.assert_close(
        start.inversions(z, x, prior, 1.0)[0], posterior, rtol=1e-5, atol=1e-7
    )


def test_brains_tell_which_components_matter():
    """Two brains that hear nothing of the last components give a prior that says so."""
    powers = []
    for seed in range(2):
        z = drawn(400, 6, seed=seed)
        mix = drawn(6, 80, seed=seed + 5) * torch.tensor([3.0, 2, 1, 0, 0, 0])[:, None]
        x = z @ mix + 2 * drawn(400, 80, seed=seed + 10)
        powers.append(start.response_power(z, x - x.mean(0)))
    prior = start.brain_prior(powers)
    scale = torch.diagonal(prior)
    assert float(scale[0] / scale[5]) > 5
    torch.testing.assert_close(prior, prior.T)
    assert float(torch.linalg.eigvalsh(prior).min()) > 0


def test_the_network_starts_as_the_closed_form():
    t, x = world()
    found = start.components(t, 30)
    z = found.of(t)
    linear = start.fit_linear(z, x, [], "inversion 1 0.3")
    form = Form("linear", len(found.sd), 16, 4, 2, 0.5, 0.15, 25, 0, None, True, False)
    bridge = Bridge(form, [40, 40]).double().eval()
    set_base(bridge, found, targets_of({"image": t}, torch.arange(len(t)), True))
    set_linear(bridge, 1, linear)
    with torch.no_grad():
        code = bridge.encode(x, 1)
        guess = bridge.predict(code)["image"]
        back = bridge.build(code, 1)
    z_guess = x @ linear.decode + linear.decode_offset
    torch.testing.assert_close(guess, (z_guess * found.sd) @ found.basis.T * 5)  # sqrt(features)
    torch.testing.assert_close(back, z_guess @ linear.encode + linear.encode_offset)


def test_both_ways_of_a_pooled_network_have_the_sizes_of_the_paper():
    form = Form("max", 20, 12, 4, 2, 0.5, 0.15, 9, 5, 3, True, False)
    bridge = Bridge(form, [30, 25])
    x = drawn(7, 30, dtype=torch.float32)
    code = bridge.encode(x, 0)
    assert code.shape == (7, 12)
    assert bridge.build(code, 1).shape == (7, 20)
    assert {k: v.shape for k, v in bridge.predict(code).items()} == {
        "image": (7, 9), "text": (7, 5)
    }  # fmt: skip
    torch.testing.assert_close(bridge.encode(pool(x, 20, "max"), 0).shape, code.shape)
    alone = Bridge(Form(**{**vars(form), "builds": False}), [30])
    with pytest.raises(ValueError, match="without builders"):
        alone.build(alone.encode(x, 0), 0)
