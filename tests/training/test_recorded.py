"""Recorded passes on a card: the same numbers as passes that run as they are."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.loop import fit_gradient
from neuropipe.training.recorded import Recorded
from neuropipe.training.settings import Training

pytestmark = pytest.mark.gpu
SETTINGS = Training(epochs=4, batch_size=8, learning_rate=1e-2, clip_norm=1.0, weight_decay=0.1)


@pytest.fixture(autouse=True)
def _card():
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")


def fitted(steady: bool, *, reads_back: bool = False, n: int = 52, epochs: int = 4) -> dict:
    """Train a network with dropout and running means; the last batch of an epoch is short."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(6, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Dropout(0.3), nn.Linear(32, 2)
    ).cuda()
    x, y = torch.randn(n, 6, device="cuda"), torch.randn(n, 2, device="cuda")

    def loss(batch):
        error = (module(batch["x"]) - batch["y"]).square().mean()
        if reads_back and float(error.detach()) < 0:
            error = error * 2
        return {"loss": error, "twice": 2 * error.detach().double()}

    def batches(epoch):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch)).cuda()
        return [{"x": x[part], "y": y[part]} for part in order.split(8)]

    history = fit_gradient(
        module, loss, batches, settings=SETTINGS.model_copy(update={"epochs": epochs}),
        n_batches=-(-n // 8), seed=1, stage="s", kept=Checkpoint(None, ""), steady=steady,
        validate=lambda: float((module(x) - y).square().mean()),
    )  # fmt: skip
    return {"history": history, **module.state_dict()}


def same(a: dict, b: dict) -> None:
    assert a["history"].terms == b["history"].terms
    assert a["history"].validation == b["history"].validation
    for name, value in a.items():
        if name != "history":
            assert torch.equal(value, b[name]), name


def test_a_recorded_fit_is_the_same_to_the_bit(monkeypatch):
    replays = []
    inner = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda g: (replays.append(1), inner(g)))
    same(fitted(True), fitted(False))
    # whole batches and short ones, less those of either kind that warm up
    assert len(replays) == (4 * 6 - 3) + (4 - 3)


def test_a_loss_that_reads_back_is_run_as_it_is(caplog):
    with caplog.at_level(logging.WARNING):
        found = fitted(True, reads_back=True)
    assert "not recorded" in caplog.text
    same(found, fitted(False, reads_back=True))


def test_what_is_returned_outlives_the_next_pass():
    weight = nn.Parameter(torch.ones(3, device="cuda"))

    def run(batch):
        loss = (weight * batch["x"]).sum()
        loss.backward()
        return {"loss": loss.detach()}

    recorded, kept = Recorded([weight], run), []
    for k in range(8):
        weight.grad = None
        kept.append(recorded({"x": torch.full((3,), float(k), device="cuda")})["loss"])
        assert float(weight.grad[0]) == k
    assert [float(v) for v in kept] == [3.0 * k for k in range(8)]
