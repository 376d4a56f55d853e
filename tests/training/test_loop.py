"""The training loop: the plain Adam loop's numbers, the same after a kill, the best weights."""

import numpy as np
import pytest
import torch
from torch import nn

from neuropipe.errors import NeuropipeError
from neuropipe.runtime import generator
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.history import History
from neuropipe.training.loop import fit_gradient
from neuropipe.training.settings import Training

N, BATCH = 40, 8


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def data():
    rng = generator(3, "data")
    x = rng.standard_normal((N, 5))
    return torch.tensor(x), torch.tensor(x @ rng.standard_normal((5, 2)))


def network():
    rng = generator(4, "network")
    module = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.2), nn.Tanh(), nn.Linear(6, 2)).double()
    for weight in module.parameters():
        weight.data = torch.tensor(rng.standard_normal(weight.shape) / 2)
    return module


def train(data, module, kept, *, dies_at=None, settings=None, validate=None, groups=None):
    x, y = data
    steps = iter(range(10**6))

    def loss(batch):
        if next(steps) == dies_at:
            raise Killed
        error = ((module(batch["x"]) - batch["y"]) ** 2).mean()
        return {"loss": error, "error": error.sqrt()}

    def batches(epoch):
        order = generator(0, f"epoch-{epoch}").permutation(N)
        for part in np.split(order, N // BATCH):
            yield {"x": x[part], "y": y[part]}

    return fit_gradient(
        module, loss, batches, settings=settings or SETTINGS, n_batches=N // BATCH, seed=0,
        stage="main", kept=kept, validate=validate, groups=groups,
    )  # fmt: skip


SETTINGS = Training(
    epochs=6,
    batch_size=BATCH,
    learning_rate=0.02,
    warmup_share=0.2,
    weight_decay=0.1,
    clip_norm=1.0,
)


def test_equals_a_plain_loop_of_torch(data):
    module = network()
    module[1].p = 0.0
    train(data, module, Checkpoint(None, ""))
    plain = network()
    plain[1].p = 0.0
    plain.train()
    matrices = [w for w in plain.parameters() if w.ndim == 2]
    vectors = [w for w in plain.parameters() if w.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=0.02,
    )
    x, y = data
    step, n_steps = 0, 6 * N // BATCH
    for epoch in range(6):
        for part in np.split(generator(0, f"epoch-{epoch}").permutation(N), N // BATCH):
            rise = 0.2 * n_steps
            share = (step + 1) / (rise + 1) if step < rise else (
                0.5 * (1 + np.cos(np.pi * (step - rise) / (n_steps - rise)))
            )  # fmt: skip
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * share
            optimizer.zero_grad()
            ((plain(x[part]) - y[part]) ** 2).mean().backward()
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimizer.step()
            step += 1
    for ours, theirs in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_short_products_are_asked_for_inside_a_pass_alone(data, precision):
    inside = []

    def loss(batch):
        products = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        inside.append((torch.is_autocast_enabled("cpu"), *products))
        return {"loss": (module(batch["x"]) - batch["y"]).square().mean()}

    module = network().float()
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    x, y = (v.float() for v in data)
    fit_gradient(
        module, loss, lambda epoch: [{"x": x, "y": y}], n_batches=1, seed=0, stage="s",
        settings=SETTINGS.model_copy(update={"precision": precision, "epochs": 2}),
        kept=Checkpoint(None, ""),
    )  # fmt: skip
    short = precision == "tf32"
    assert inside == [(precision == "bfloat16", "high" if short else before[0], short)] * 2
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("dies_at", [1, 7, 10, 29])
def test_a_killed_fit_ends_bit_for_bit_like_an_undisturbed_one(data, tmp_path, dies_at):
    whole = network()
    course = train(data, whole, Checkpoint(None, ""), validate=lambda: 1.0)
    path = tmp_path / "fit.pt"
    with pytest.raises(Killed):
        train(data, network(), Checkpoint(path, "a", every_s=0), dies_at=dies_at,
              validate=lambda: 1.0)  # fmt: skip
    again = network()
    resumed = train(data, again, Checkpoint(path, "a", every_s=0), validate=lambda: 1.0)
    assert resumed.terms == course.terms
    assert resumed.validation == course.validation
    for ours, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_finished_stage_is_loaded_and_not_run_again(data, tmp_path):
    first = network()
    course = train(data, first, Checkpoint(tmp_path / "fit.pt", "a"))
    again = network()
    loaded = train(data, again, Checkpoint(tmp_path / "fit.pt", "a"), dies_at=0)
    assert loaded.terms == course.terms
    assert all(map(torch.equal, first.parameters(), again.parameters()))


def test_the_best_weights_by_validation_stay_and_patience_ends_the_fit(data):
    module, values = network(), iter([3.0, 1.0, 2.0, 1.5, 0.0, 0.0])
    seen = []

    def validate():
        assert not module.training
        seen.append([w.clone() for w in module.parameters()])
        return next(values)

    settings = SETTINGS.model_copy(update={"patience": 2})
    course = train(data, module, Checkpoint(None, ""), settings=settings, validate=validate)
    assert course.validation == [3.0, 1.0, 2.0, 1.5]
    assert course.best == 1
    assert all(map(torch.equal, module.parameters(), seen[1]))


def test_groups_scale_the_rate_and_leave_the_rest_alone(data):
    module, before = network(), network()
    groups = [{"params": list(module[3].parameters()), "lr_scale": 0.5}]
    train(data, module, Checkpoint(None, ""), groups=groups)
    assert torch.equal(module[0].weight, before[0].weight)
    assert not torch.equal(module[3].weight, before[3].weight)


def test_the_callers_random_numbers_are_left_alone(data):
    module = network()
    state = torch.random.get_rng_state()
    train(data, module, Checkpoint(None, ""))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_loss_that_is_not_finite_is_refused_and_never_kept(data, tmp_path):
    x, y = data
    path = tmp_path / "fit.pt"
    with pytest.raises(NeuropipeError, match=r"main: the loss is not finite .*clip_norm"):
        train((x, y * float("nan")), network(), Checkpoint(path, "a", every_s=0))
    assert not path.exists()


def test_an_epoch_that_explodes_is_repeated_at_half_the_rate(data, caplog):
    x, y = data
    module, hits = network(), iter(range(10**6))

    def loss(batch):
        bad = next(hits) == 12
        error = ((module(batch["x"]) - batch["y"]) ** 2).mean()
        return {"loss": error * float("inf") if bad else error}

    def batches(epoch):
        for part in np.split(generator(0, f"epoch-{epoch}").permutation(N), N // BATCH):
            yield {"x": x[part], "y": y[part]}

    course = fit_gradient(module, loss, batches, settings=SETTINGS, n_batches=N // BATCH, seed=0,
                          stage="main", kept=Checkpoint(None, ""))  # fmt: skip
    assert course.slowed == 1
    assert "epoch 3 is not finite" in caplog.text
    assert np.isfinite(course.terms["loss"]).all()
    assert len(course.terms["loss"]) == SETTINGS.epochs
    assert all(torch.isfinite(w).all() for w in module.parameters())


def test_another_number_of_batches_is_refused(data):
    module = network()
    with pytest.raises(ValueError, match="epoch 0 had 1 batches, expected 3"):
        fit_gradient(
            module, lambda b: {"loss": module(b["x"]).sum()}, lambda epoch: [{"x": data[0]}],
            settings=SETTINGS, n_batches=3, seed=0, stage="main", kept=Checkpoint(None, ""),
        )  # fmt: skip


def test_the_course_is_labelled(data):
    course = train(data, network(), Checkpoint(None, ""), validate=lambda: 2.0).dataset("1")
    assert dict(course.sizes) == {"step": 6}
    assert set(course.data_vars) == {"objective", "error", "validation"}
    assert course["objective"].attrs["units"] == "1"
    assert float(course["objective"][-1]) < float(course["objective"][0])


@pytest.mark.parametrize(
    ("course", "converged"),
    [
        (lambda t, e: np.exp(-t / 8) + 0.001 * e, True),
        (lambda t, e: 2.0 - 0.01 * t, False),  # falls steadily
        (lambda t, e: 2.0 - 0.01 * t + 0.02 * e, False),
        (lambda t, e: 2.0 + 0.02 * e, True),  # starts at its floor
        (lambda t, e: np.exp(-t / 8)[:9], False),  # too short to say
    ],
)
def test_whether_a_loss_still_falls(course, converged):
    noise = np.random.default_rng(4).standard_normal(100)
    assert History({"loss": list(course(np.arange(100), noise))}).converged is converged
