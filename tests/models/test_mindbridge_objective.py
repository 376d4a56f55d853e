"""The whole objective of a batch against the paper's formulas, written down entry by entry."""

import math

import pytest
import torch

from neuropipe.models.mindbridge.config import Config
from neuropipe.models.mindbridge.model import Bridge, Form
from neuropipe.models.mindbridge.objective import objective

N, BINS, IMAGE, TEXT = 5, 12, 9, 7
FORM = Form("max", BINS, 8, 4, 2, 0.5, 0.15, IMAGE, TEXT, None, True, False)


@pytest.fixture
def drawn():
    """A network of three subjects, without dropout, and a batch."""
    torch.manual_seed(0)
    bridge = Bridge(FORM, (20, 15, 17)).eval()
    for p in bridge.parameters():  # so that the adapters, which start at zero, count too
        torch.nn.init.normal_(p, std=0.3)
    batch = {f"x{s}": torch.randn(N, BINS) for s in range(3)}
    for head, n in (("image", IMAGE), ("text", TEXT)):
        batch[head] = torch.nn.functional.normalize(torch.randn(3 * N, n), dim=1)
    return bridge, {**batch, "pair": torch.tensor([2, 0]), "epoch": torch.tensor(0)}


def mean_square(a, b):
    """Mean over all entries of the squared difference, by two loops."""
    total = 0.0
    for row_a, row_b in zip(a.tolist(), b.tolist(), strict=True):
        for x, y in zip(row_a, row_b, strict=True):
            total += (x - y) ** 2
    return total / a.numel()


def clip(p, t, temperature):
    """SoftCLIP of rows of length 1, by two loops over samples."""
    n, total = len(p), 0.0
    dot = [[sum(a * b for a, b in zip(p[i], t[j], strict=True)) for j in range(n)]
           for i in range(n)]  # fmt: skip
    truth = [[sum(a * b for a, b in zip(t[i], t[j], strict=True)) for j in range(n)]
             for i in range(n)]  # fmt: skip
    for table in (dot, [list(column) for column in zip(*dot, strict=True)]):
        for i in range(n):
            top = max(table[i]) / temperature
            log_norm = top + math.log(sum(math.exp(v / temperature - top) for v in table[i]))
            high = max(truth[i])
            weight = [math.exp((v - high) / temperature) for v in truth[i]]
            for j in range(n):
                total -= weight[j] / sum(weight) * (table[i][j] / temperature - log_norm)
    return total / (2 * n)


def unit(rows):
    return [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in rows.tolist()]


@torch.no_grad()
def by_hand(bridge, batch, into=None):
    """The four losses, their weights those of the paper."""
    bridge = bridge.double()
    x = [batch[f"x{s}"].double() for s in range(3)]
    code = [bridge.encode(one, s) for s, one in enumerate(x)]
    guess = bridge.predict(torch.cat(code))
    terms = {"soft_clip": 0.0, "unit_mse": 0.0}
    for head, p in guess.items():
        p, t = unit(p), batch[head].double()
        terms["soft_clip"] += clip(p, t.tolist(), 0.005)
        terms["unit_mse"] += mean_square(torch.tensor(p, dtype=torch.float64), t)
    rebuilt = [mean_square(bridge.build(code[s], s), x[s]) for s in range(3)]
    terms["reconstruction"] = sum(rebuilt) / 3
    a, b = (2, 0) if into is None else ({2: 0, 0: 2}[into], into)
    again = bridge.encode(bridge.build(code[a], b), b)
    terms["cycle"] = mean_square(again, code[a])
    weighted = terms["soft_clip"] + 1e4 * terms["unit_mse"]
    return {**terms, "loss": weighted + terms["reconstruction"] + terms["cycle"]}


@pytest.mark.parametrize("into", [None, 0, 2])
def test_the_four_losses_are_those_of_two_plain_loops(drawn, into):
    bridge, batch = drawn
    config = Config(preset="faithful")
    found = objective(bridge, config, 600, range(3), into)(batch)
    assert {v.dtype for v in found.values()} == {torch.float32}
    expected = by_hand(bridge, batch, into)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert float(found[name].detach()) == pytest.approx(value, rel=1e-5), name


def test_both_directions_are_the_mean_of_each(drawn):
    bridge, batch = drawn
    both = objective(bridge, Config(preset="faithful", cycle_pairs="both"), 600, range(3))(batch)
    one = objective(bridge, Config(preset="faithful"), 600, range(3))
    forth, back = (one({**batch, "pair": torch.tensor(pair)}) for pair in ([2, 0], [0, 2]))
    torch.testing.assert_close(both["cycle"], (forth["cycle"] + back["cycle"]) / 2)
    assert float(forth["cycle"].detach()) != pytest.approx(float(back["cycle"].detach()))


def test_gradients_of_the_cycle_go_through_both_brains(drawn):
    bridge, batch = drawn
    cycle = objective(bridge, Config(preset="faithful"), 600, range(3))(batch)["cycle"]
    cycle.backward()
    moved = {
        (s, part)
        for s in range(3)
        for part in ("embedder", "builder")
        if any(p.grad is not None for p in getattr(bridge.subject(s), part).parameters())
    }
    assert moved == {(2, "embedder"), (0, "embedder"), (0, "builder")}
