"""Small networks that decode behaviour from windows of spikes: a perceptron and a GRU."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from neuropipe.baselines.window_config import WindowedDecoderConfig, WindowNetConfig
from neuropipe.baselines.windowed import WindowedDecoder, in_pieces
from neuropipe.runtime import generator, pick_device
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.loop import fit_gradient

AT_ONCE = 4096  # windows


class MLPDecoder(WindowedDecoder):
    """A perceptron with two hidden layers, on the counts that ridge sees."""

    settings: ClassVar[type[WindowedDecoderConfig]] = WindowNetConfig
    config: WindowNetConfig

    def seen(self, x: np.ndarray) -> np.ndarray:
        """Return what the network takes in."""
        return in_pieces(x, self.config.window_bins).reshape(len(x), -1) / self._spread

    @property
    def _spread(self) -> float:
        # sums of unit-variance bins, back to variance of about 1
        return float(self.config.window_bins) ** 0.5

    def build(self, shape: tuple[int, ...], n_targets: int) -> nn.Module:
        """Return the network for inputs of a shape."""
        config = self.config
        n = config.hidden
        return nn.Sequential(
            nn.Linear(shape[-1], n), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(n, n), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(n, n_targets),
        )  # fmt: skip

    def learn(
        self, x: np.ndarray, y: np.ndarray, *, seed: int, device: str, checkpoint: Path | None
    ) -> dict[str, np.ndarray]:
        """Train; the last part of the training windows chooses the epoch."""
        config = self.config
        where = pick_device(device)
        seen = torch.as_tensor(np.ascontiguousarray(self.seen(x))).float().to(where)
        label = torch.as_tensor(y).float().to(where)
        gap = -(-config.history_bins // config.window_bins)
        edge = len(seen) - round(config.validation_share * len(seen))
        early = max(edge - gap, 1) if edge < len(seen) else edge
        net = self._drawn(tuple(seen.shape[1:]), y.shape[1], seed).to(where)
        size = min(config.schedule.batch_size, early)

        def batches(epoch: int) -> Iterator[Mapping[str, Tensor]]:
            order = generator(seed, f"decoder-{epoch}").permutation(early)
            for n in range(early // size):
                rows = torch.as_tensor(order[n * size : (n + 1) * size]).to(where)
                yield {"x": seen[rows], "y": label[rows]}

        def loss(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": (net(batch["x"]) - batch["y"]).square().mean()}

        def validate() -> float:
            return float((net(seen[edge:]) - label[edge:]).square().mean())

        digest = hashlib.sha256(f"{type(self).__name__} {seed} {config.model_dump_json()}".encode())
        digest.update(np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(y).tobytes())
        history = fit_gradient(
            net, loss, batches, settings=config.schedule, n_batches=early // size, seed=seed,
            stage="decoder", kept=Checkpoint(checkpoint, digest.hexdigest()),
            validate=validate if edge < len(seen) else None,
        )  # fmt: skip
        self.history_ = history.dataset("1")
        return {f"net.{n}": v.cpu().numpy() for n, v in net.state_dict().items()}

    def _blank(self, shape: tuple[int, ...], n_targets: int) -> nn.Module:
        """Return the network, its weights still to be set; torch's own numbers stay untouched."""
        with torch.random.fork_rng(devices=[]):
            return self.build(shape, n_targets)

    def _drawn(self, shape: tuple[int, ...], n_targets: int, seed: int) -> nn.Module:
        """Return the network with first weights drawn by variance 1 / inputs."""
        net, rng = self._blank(shape, n_targets), generator(seed, "decoder-init")
        with torch.no_grad():
            for parameter in net.parameters():
                sd = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.0
                parameter.copy_(torch.as_tensor(rng.normal(0, 1, parameter.shape) * sd))
        return net

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return scaled labels (window, target)."""
        seen = torch.as_tensor(np.ascontiguousarray(self.seen(x))).float()
        net = self._blank(tuple(seen.shape[1:]), len(self.config.targets))
        net.load_state_dict({n[4:]: torch.as_tensor(v) for n, v in self._learned.items()})
        net.eval()
        parts = [net(part).double() for part in seen.split(AT_ONCE)]
        return torch.cat(parts).numpy()


class GRUDecoder(MLPDecoder):
    """A bidirectional GRU over the bins of past and present, read out at both of its ends."""

    def seen(self, x: np.ndarray) -> np.ndarray:
        """Return what the network takes in: all bins."""
        return x

    def build(self, shape: tuple[int, ...], n_targets: int) -> nn.Module:
        """Return the network for inputs of a shape."""
        config = self.config
        return _GRU(shape[-1], config.hidden, n_targets, config.dropout)


class _GRU(nn.Module):
    def __init__(self, n_inputs: int, hidden: int, n_targets: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(n_inputs, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden, n_targets))

    def forward(self, x: Tensor) -> Tensor:
        """Return (window, target) of (window, bin, input)."""
        _, last = self.gru(x)
        return self.out(torch.cat([last[0], last[1]], 1))
