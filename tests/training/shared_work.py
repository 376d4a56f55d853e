"""What several processes compute together, run by torchrun or in one process: the same numbers.

Usage: python -m torch.distributed.run --standalone --nproc-per-node 2 shared_work.py OUT [WHAT]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from neuropipe.errors import Interrupted
from neuropipe.training import processes
from neuropipe.training.checkpoint import STOP, Checkpoint
from neuropipe.training.loop import fit_gradient
from neuropipe.training.settings import Training

N = 10


def data():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2 * N, 3, 4, generator=rng)
    return x, x.mean((1, 2)) + torch.randn(2 * N, generator=rng)


class Net(nn.Module):
    """A network whose loss couples all rows: by normalisation, by contrast, and by a count."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.into = nn.Conv1d(3, 5, 1, bias=False)
            self.norm = processes.BatchNorm(5)
            self.out = nn.Linear(20, 2)
            self.unused = nn.Parameter(torch.ones(3))

    def loss(self, batch):
        x, y = batch["x"], batch["y"]
        noise = processes.draw(len(x), lambda n, g: torch.rand(n, 4, generator=g))
        z = self.out((self.norm(self.into(x)) * (1 + 0.1 * noise[:, None])).flatten(1))
        error = processes.part((z[:, 0] - y).square().mean(), len(y))
        both = processes.gather(nn.functional.normalize(z, dim=1))
        contrast = nn.functional.cross_entropy(both @ both.T, torch.arange(len(both)))
        positive = (y > 0).sum()
        mean = z[y > 0, 1].sum() / processes.reduce_sum(positive)
        contrast = processes.part(contrast)
        return {"loss": error + contrast + mean.square() * 0.0 + 0.1 * mean, "contrast": contrast}


def batches(epoch):
    x, y = data()
    order = np.random.default_rng(epoch).permutation(2 * N)
    for start in range(0, 2 * N, 5):
        at = processes.share(order[start : start + 5])
        yield {"x": x[at], "y": y[at]}


def fitted(path=None, stop=None, **settings):
    """Fit, perhaps asked to stop in the middle by a signal to the last process alone."""
    net = Net()
    made = Training(epochs=4, batch_size=5, learning_rate=0.01, clip_norm=1.0, **settings)
    kept = Checkpoint(path, "f", every_s=1e9)
    seen = []

    def loss(batch):
        seen.append(1)
        if len(seen) == stop and processes.number() == processes.count() - 1:
            STOP.set()
        return net.loss(batch)

    try:
        history = fit_gradient(
            net, loss, batches, settings=made, n_batches=4, seed=3, stage="s", kept=kept,
            validate=lambda: float(net.loss(dict(zip("xy", data(), strict=True)))["loss"]),
            shared=True,
        )  # fmt: skip
    finally:
        STOP.clear()
    return net, history


def flat(net, history):
    out = {f"net.{n}": v.detach().double().numpy() for n, v in net.state_dict().items()}
    courses = {**history.terms, "validation": history.validation}
    return out | {n: np.array(v) for n, v in courses.items()}


def sums():
    """Sums, rows and parts, and the gradients that go through them."""
    rows = torch.arange(1.0, 8.0)
    with processes.together():
        x = processes.share(rows).clone().requires_grad_()
        everyone = processes.gather(x)
        total = processes.reduce_sum(x.square().sum())
        loss = processes.part((everyone.cos() * total).sum()) + processes.part(x.mean(), len(x))
        loss.backward()
        gradient = processes.gather(x.grad)
        drawn = (processes.seed_step(11), processes.normal_like(x.detach()))[1]
        return {
            "rows": everyone.detach().numpy(), "total": np.array(float(total.detach())),
            "loss": np.array(float(processes.reduce_sum(loss.detach()))),
            "gradient": gradient.numpy(),
            "most": np.array(processes.reduce_max(float(x.detach().max()))),
            "before": np.array(processes.before(len(x)) * (processes.number() == 0)),
            "drawn": processes.gather(drawn).numpy(),
        }  # fmt: skip


def results(folder):
    """Everything that must not depend on the number of processes."""
    out = {f"sums.{k}": v for k, v in sums().items()}
    out |= {f"plain.{k}": v for k, v in flat(*fitted()).items()}
    out |= {f"two.{k}": v for k, v in flat(*fitted(accumulate=3)).items()}
    path = folder / "kept.pt"
    try:
        fitted(path, stop=6)
    except Interrupted:
        out["asked"] = np.array(1)
    # all read the file before the first one, which goes on, replaces it
    out |= {f"resumed.{k}": v for k, v in flat(*fitted(path)).items()}
    return out


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with processes.joined(torch.device("cpu")):
        if "fail" in sys.argv and not processes.is_first():
            raise RuntimeError("this process fails")
        found = results(folder)
        if processes.is_first():
            np.savez(folder / "found.npz", **found)


if __name__ == "__main__":
    main()
