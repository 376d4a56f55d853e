"""Du-IN's networks against closed forms, published sizes and other libraries."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn
from torch.nn import functional as F

from neuropipe.models.du_in.codebook import Codebook, perplexity, sphere_means, straight_through
from neuropipe.models.du_in.encoder import Layer, PatchEncoder, SubjectLinear, positions
from neuropipe.models.du_in.model import (
    Classifier,
    MaskedNet,
    Sizes,
    UnitNet,
    draw_mask,
    n_weights,
    shifted,
    squared_error,
    upsampler,
)

PUBLISHED = Sizes(1, 10, small=True, nonlinear=False)
TINY = Sizes(
    2, 3, 4, 20, (6, 5), (5, 3), (5, 1), n_layers=2, n_heads=2, head_dim=8, n_inner=16,
    dropout=0.0, n_codes=7, code_dim=4, decoder_layers=1, decoder_filters=8, head_width=8,
)  # fmt: skip


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


def test_published_sizes_have_the_published_numbers_of_weights():
    """The authors count positions too: 40 or 30 tokens of 160 numbers."""
    assert n_weights(UnitNet(PUBLISHED)) + 40 * 160 == 5_940_906  # 5.941 M
    assert n_weights(MaskedNet(PUBLISHED)) + 40 * 160 == 3_896_704  # 3.897 M
    assert n_weights(Classifier(PUBLISHED, 30, 61)) + 30 * 160 == 4_187_613  # 4.19 M, used parts


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_layer_is_torchs_own(norm_first):
    ours = Layer(12, 3, 4, 20, 0.0, norm_first=norm_first, norm_heads=False)
    theirs = nn.TransformerEncoderLayer(
        12, 3, 20, 0.0, "relu", batch_first=True, norm_first=norm_first
    )
    pairs = [
        (theirs.self_attn.in_proj_weight, ours.into.weight),
        (theirs.self_attn.in_proj_bias, ours.into.bias),
        (theirs.self_attn.out_proj.weight, ours.out.weight),
        (theirs.self_attn.out_proj.bias, ours.out.bias),
        (theirs.linear1.weight, ours.inner.weight), (theirs.linear1.bias, ours.inner.bias),
        (theirs.linear2.weight, ours.outer.weight), (theirs.linear2.bias, ours.outer.bias),
    ]  # fmt: skip
    with torch.no_grad():
        for theirs_weight, our_weight in pairs:
            theirs_weight.copy_(our_weight.normal_(std=0.3))
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_heads_are_normalised_and_attention_is_the_formula():
    layer = Layer(6, 2, 4, 8, 0.0)
    x = torch.randn(1, 5, 6)
    q, k, v = (layer.into(x).view(5, 3, 2, 4)[:, i].transpose(0, 1) for i in range(3))
    q, k = (F.layer_norm(t, (4,)) for t in (q, k))
    y = torch.stack([(a @ b.T / 2).softmax(1) @ c for a, b, c in zip(q, k, v, strict=True)])
    torch.testing.assert_close(layer.attend(x)[0], layer.out(y.transpose(0, 1).reshape(5, 8)))


def test_each_subject_has_its_own_map():
    layer = SubjectLinear(3, 4, 2, small=False)
    x, subject = torch.randn(5, 6, 4), torch.tensor([2, 0, 2, 1, 0])
    got = layer(x, subject)
    for row, s in enumerate(subject):
        torch.testing.assert_close(got[row], x[row] @ layer.weight[s] + layer.bias[s])


def test_positions_are_sines_and_cosines():
    got = positions(9, 6, torch.device("cpu")).numpy()
    for n in range(9):
        for i in range(3):
            angle = n / 10000 ** (2 * i / 6)
            np.testing.assert_allclose(
                got[n, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6
            )


def test_published_patches_are_linear_and_ours_are_not():
    for nonlinear in (False, True):
        net = PatchEncoder(4, 100, (8, 8, 4), (19, 3, 3), (10, 1, 1), nonlinear=nonlinear).eval()
        a, b = torch.randn(2, 1, 300, 4)
        zero = net(torch.zeros(1, 300, 4))
        gap = net(a + b) - net(a) - net(b) + zero
        assert net(a).shape == (1, 3, 40)
        assert (gap.abs().max() < 1e-5) is not nonlinear


def test_patches_do_not_look_at_each_other():
    net = PatchEncoder(4, 20, (6,), (5,), (5,), nonlinear=True).eval()
    x = torch.randn(1, 60, 4)
    other = x.clone()
    other[:, 20:40] += 1
    same = (net(x) == net(other)).all(-1)[0]
    assert same.tolist() == [True, False, True]


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (9, 1), (10, 10), (19, 10), (3, 2), (4, 4)])
def test_upsampling_lengthens_exactly(kernel, stride):
    assert upsampler(2, 3, kernel, stride)(torch.zeros(1, 2, 7)).shape == (1, 3, 7 * stride)


def test_half_of_the_tokens_are_hidden_and_the_passes_complete_each_other():
    mask = draw_mask(50, 11)
    assert (mask.sum(1) == 6).all()
    assert 0.35 < mask.double().mean(0).min() < mask.double().mean(0).max() < 0.75
    net = MaskedNet(TINY).eval()
    x, subject = torch.randn(1, 100, 3), torch.zeros(1, dtype=torch.long)
    mask = torch.tensor([[True, False, True, False, False]])
    first = net(x, subject, mask)
    for token in range(5):  # what is told of a token never saw it
        other = x.clone()
        other[:, 20 * token : 20 * token + 20] += torch.randn(20, 3)
        changed = (net(other, subject, mask) != first).any(-1)[0]
        seen_by = mask[0] != mask[0, token]
        assert torch.equal(changed, seen_by)


def test_gradient_goes_straight_through_the_code():
    book = Codebook(5, 7, 4)
    tokens = torch.randn(2, 3, 5, requires_grad=True)
    point = book.project(tokens)
    code = book.code[book.search(point)]
    weight = torch.randn(2, 3, 5)
    by_point = torch.autograd.grad((book.back(code + 0 * point) * weight).sum(), point,
                                   retain_graph=True)[0]  # fmt: skip
    assert not by_point.any()  # codes themselves hand nothing on
    leaf = code.clone().requires_grad_()
    want = torch.autograd.grad((book.back(leaf) * weight).sum(), leaf)[0]
    got = torch.autograd.grad((book.back(straight_through(point, code)) * weight).sum(), point)[0]
    torch.testing.assert_close(got, want)
    point = point.detach().requires_grad_()
    pull = torch.autograd.grad(F.mse_loss(point, code), point)[0]
    torch.testing.assert_close(pull, 2 * (point - code) / point.numel())
    found = book.eval()(tokens)
    torch.testing.assert_close(found.out, book.back(code))
    torch.testing.assert_close(found.commitment, (book.project(tokens) - code).square().mean())
    assert float(found.use.sum()) == 6


def test_codes_follow_as_a_plain_loop_and_dead_ones_return():
    book = Codebook(5, 6, 3, decay=0.9)
    tokens, code = torch.randn(4, 9, 5), book.code.clone()
    flat = book.project(tokens).flatten(0, 1).detach()
    book.train()(tokens)
    index = (flat.double() @ code.double().T).argmax(1)
    for k in range(6):
        mine = flat[index == k]
        want = code[k]
        if len(mine):
            want = F.normalize(0.9 * code[k] + 0.1 * F.normalize(mine.mean(0), dim=0), dim=0)
        torch.testing.assert_close(book.code[k], want)
        assert float(book.size[k]) == pytest.approx(0.9 + 0.1 * len(mine))
    book = Codebook(5, 6, 3, revival=0.1)
    book.size[2] = 0.0
    book.train()(tokens)
    flat = book.project(tokens).flatten(0, 1)
    assert bool((book.code[2] == flat).all(1).any())
    assert float(book.size[2]) > 0.5
    before = book.code.clone()
    book.eval()(tokens)
    assert torch.equal(book.code, before)


def test_k_means_on_the_sphere_is_another_librarys():
    g = torch.Generator().manual_seed(0)
    center = F.normalize(torch.randn(5, 8, generator=g), dim=1)
    point = F.normalize(
        center.repeat_interleave(40, 0) + 0.1 * torch.randn(200, 8, generator=g), dim=1
    )
    code, count = sphere_means(point, 5, g)
    theirs = KMeans(5, n_init=10, random_state=0).fit(point.numpy())
    ours = (point @ code.T).argmax(1).numpy()
    pairs = set(zip(ours.tolist(), theirs.labels_.tolist(), strict=True))
    assert len(pairs) == 5
    assert count.tolist() == [40] * 5
    more, _ = sphere_means(point[:3], 5, g)  # codes then come twice
    assert torch.isfinite(more).all()


def test_perplexity_counts_codes_in_even_use():
    assert float(perplexity(torch.tensor([5, 5, 5, 0]))) == pytest.approx(3)
    assert float(perplexity(torch.tensor([9, 0, 0]))) == pytest.approx(1)
    p = np.array([0.5, 0.25, 0.25])
    want = np.exp(-(p * np.log(p)).sum())
    assert float(perplexity(torch.tensor([2, 1, 1]))) == pytest.approx(want)


def test_the_published_sigmoid_keeps_the_loss_above_3_1_nats():
    sizes = TINY._replace(n_subjects=1)
    net = Classifier(sizes, 5, 61, sigmoid=True)
    x, subject = torch.randn(4, 100, 3), torch.zeros(4, dtype=torch.long)
    logits = net(x, subject).detach()
    assert 0 < float(logits.min()) < float(logits.max()) < 1
    best = F.cross_entropy(F.one_hot(torch.arange(61)).double(), torch.arange(61))
    assert float(best) == pytest.approx(np.log(np.e + 60) - 1) == pytest.approx(3.139, abs=5e-4)


def test_shifts_bring_zeros_and_a_shift_of_none_changes_nothing():
    x = torch.arange(1.0, 7).view(1, 6, 1).repeat(3, 1, 1)
    got = shifted(x, torch.tensor([0, 2, -1]))[..., 0]
    want = [[1, 2, 3, 4, 5, 6], [0, 0, 1, 2, 3, 4], [2, 3, 4, 5, 6, 0]]
    assert got.tolist() == want


def test_contacts_that_a_subject_lacks_do_not_count():
    got, want = torch.zeros(2, 4, 3), torch.ones(2, 4, 3)
    want[1, :, 2] = 100
    present = torch.tensor([[True, True, True], [True, True, False]])
    assert float(squared_error(got, want, present)) == 1


def test_reconstruction_learns_through_codes_of_both_subjects():
    net = UnitNet(TINY).train()
    x, subject = torch.randn(4, 100, 3), torch.tensor([0, 1, 1, 0])
    present = torch.ones(4, 3, dtype=torch.bool)
    terms = net.loss(x, subject, present, quantised=True, weight=0.5)
    assert float(terms["loss"].detach()) == pytest.approx(
        float((terms["reconstruction"] + 0.5 * terms["commitment"]).detach())
    )
    terms["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert net.encoder.spatial.weight.grad.abs().amax((1, 2)).min() > 0
