"""Several processes come to the numbers of one, and end together."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neuropipe.errors import ConfigError
from neuropipe.training import processes

HERE = Path(__file__).parent
sys.path.append(str(HERE))
import shared_work  # noqa: E402

ROOT = HERE.parents[1]


def torchrun(n, *words):
    """Run a script on so many processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone",
             "--nproc-per-node", str(n)]  # fmt: skip
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return subprocess.run([*start, *map(str, words)], env={**os.environ, **quiet},
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return shared_work.results(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(2, HERE / "shared_work.py", folder)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz"))


def test_sums_rows_parts_and_their_gradients(one, two):
    names = [n for n in one if n.startswith("sums.")]
    assert len(names) == 7
    for name in names:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("which", ["plain", "two"])
def test_a_network_learns_the_same(one, two, which):
    """Normalised and contrasted over the whole batch; with gradients of three batches at once."""
    names = [n for n in one if n.startswith(f"{which}.")]
    assert f"{which}.validation" in names
    for name in names:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_asked_one_by_one_all_stop_and_go_on_exactly(one, two):
    assert two["asked"] == one["asked"] == 1
    for found in (one, two):
        for name in (n for n in found if n.startswith("plain.")):
            again = found[name.replace("plain", "resumed")]
            if name.rsplit(".", 1)[1] in ("loss", "contrast"):  # means, halved and added up again
                np.testing.assert_allclose(again, found[name], rtol=1e-12, err_msg=name)
            else:
                np.testing.assert_array_equal(again, found[name], err_msg=name)


def test_gradients_of_several_batches_are_averaged():
    """Three batches at once are one batch of all their rows, where nothing couples rows."""
    from neuropipe.training.checkpoint import Checkpoint
    from neuropipe.training.loop import fit_gradient
    from neuropipe.training.settings import Training

    x, y = shared_work.data()
    ends = []
    for size, accumulate in ((4, 3), (12, 1)):
        net = nn.Linear(12, 1)
        nn.init.ones_(net.weight)
        nn.init.zeros_(net.bias)

        def loss(batch, net=net):
            return {"loss": (net(batch["x"].flatten(1))[:, 0] - batch["y"]).square().mean()}

        def batches(epoch, size=size):
            for start in range(0, 12, size):
                yield {"x": x[start : start + size], "y": y[start : start + size]}

        settings = Training(epochs=3, batch_size=size, learning_rate=0.1, accumulate=accumulate)
        fit_gradient(net, loss, batches, settings=settings, n_batches=12 // size, seed=0,
                     stage="s", kept=Checkpoint(None, ""))  # fmt: skip
        ends.append(net.weight.detach().clone())
    torch.testing.assert_close(ends[0], ends[1])


def test_a_failing_process_ends_the_others(tmp_path):
    began = time.monotonic()
    done = torchrun(2, HERE / "shared_work.py", tmp_path, "fail")
    assert done.returncode != 0
    assert "this process fails" in done.stderr
    assert time.monotonic() - began < 120
    assert not (tmp_path / "found.npz").exists()


def test_alone_everything_is_plain():
    x = torch.randn(4, 3, requires_grad=True)
    with processes.together():
        assert processes.count() == 1
        assert processes.share([1, 2, 3]) == [1, 2, 3]
        for function in (processes.reduce_sum, processes.gather, processes.part):
            assert function(x) is x
    assert processes.is_first()


def test_fewer_items_than_processes_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    with pytest.raises(ConfigError, match="cannot be shared by 3 processes"):
        processes.share([1, 2])


def test_batch_norm_is_torchs_own_alone():
    x = torch.randn(6, 5, 4)
    ours, theirs = processes.BatchNorm(5), nn.BatchNorm1d(5)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize("models", [("hmm_glm", "ntf_connectome"), ("mm_gpvae", "neuroformer"),
                                    ("mindbridge", "du_in")])  # fmt: skip
def test_each_model_comes_to_the_same(models):
    script = ROOT / "tests" / "scale" / "processes.py"
    done = subprocess.run([sys.executable, str(script), "--models", *models], text=True,
                          capture_output=True, timeout=500, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
