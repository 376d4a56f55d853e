"""Small convolutional networks as decoders of trials, trained by the common loop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional as F

from neuropipe.baselines.config import NetConfig
from neuropipe.baselines.eeg_nets import build as net_of
from neuropipe.baselines.eeg_nets import moved, shortest
from neuropipe.batching.door import Door, enter
from neuropipe.batching.epochs import Voltages, VoltageSource, part
from neuropipe.batching.refusals import NO_TRIAL, refuse_unfitted, say_undefined
from neuropipe.config import build
from neuropipe.errors import DataError, NotFittedError
from neuropipe.runtime import generator, pick_device
from neuropipe.schema import Recording, Var
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.loop import fit_gradient

AT_ONCE = 256  # trials


class EEGNet:
    """EEGNet, from random weights, on the trials that Du-IN decodes.

    Parameters
    ----------
    **settings
        Fields of `NetConfig`.

    Notes
    -----
    Contacts, trials, scaling and the part of training that chooses the epoch are those of Du-IN.
    One subject at a time. Network and source: `eeg_nets`.
    """

    reads: ClassVar[tuple[str, ...]] = ("ieeg", "trials")
    writes: ClassVar[Mapping[str, Var]] = {
        "class_probability": Var(("trial", "class"), "1", "f", "of each class"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "class_share": Var(("class",), "1", "f", "share of the training trials"),
        "n_weights": Var((), "1", "i", "numbers that were learned"),
    }
    kind: ClassVar[str] = "eegnet"

    def __init__(self, **settings: Any) -> None:
        self.config = build(NetConfig, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Train on the training trials.

        Raises
        ------
        DataError
            If there are several subjects, trials are too short for the network, or as `enter`.
        """
        c = self.config
        door, found = enter(recordings, VoltageSource(c.labels, c.trial_s, c.n_channels), c.patch_s)
        if len(door.channel) > 1:
            raise DataError(
                f"{self.kind}: {len(door.channel)} subjects ({', '.join(door.channel)}), expected "
                "one; give each subject a run of its own"
            )
        if door.n_samples < shortest(self.kind):
            raise DataError(
                f"{self.kind}: trials of {door.n_samples} samples, expected at least "
                f"{shortest(self.kind)}; lengthen trials, or leave the baseline out"
            )
        fitted, judged = part(found, c.validation_share, door.n_samples, seed=seed)
        where = pick_device(device)
        (x, y), (held_x, held_y) = (_trials(v, door, where) for v in (fitted, judged))
        if not len(x) or not len(held_x):
            raise DataError(
                f"{self.kind}: no trial is left to {'fit' if not len(x) else 'validate on'}; "
                "change validation_share or use more training data"
            )
        net = _drawn(self.kind, door, seed).to(where)
        size = min(c.training.batch_size, len(x))
        most = round(c.shift_share * door.n_samples)

        def batches(epoch: int) -> Iterator[Mapping[str, Tensor]]:
            rng = generator(seed, f"{self.kind}-{epoch}")
            order, by = rng.permutation(len(x)), rng.integers(-most, most + 1, len(x))
            for number in range(max(1, len(x) // size)):
                rows = torch.as_tensor(order[number * size : (number + 1) * size]).to(where)
                late = torch.as_tensor(by).to(where)[rows]
                yield {"x": moved(x[rows], late), "y": y[rows]}

        def loss(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            logits = net(batch["x"]).float()
            value = F.cross_entropy(logits, batch["y"], label_smoothing=c.label_smoothing)
            return {"loss": value, "accuracy": (logits.argmax(1) == batch["y"]).double().mean()}

        history = fit_gradient(
            net, loss, batches, settings=c.training, n_batches=max(1, len(x) // size), seed=seed,
            stage=self.kind, kept=Checkpoint(checkpoint, self._fingerprint(x, y, seed)),
            validate=lambda: float(F.cross_entropy(_logits(net, held_x), held_y)),
        )  # fmt: skip
        self._door, self._net = door, net
        self.history_ = history.dataset()
        self.history_["accuracy"].attrs["units"] = "1"
        return self

    def _fingerprint(self, x: Tensor, y: Tensor, seed: int) -> str:
        digest = hashlib.sha256(f"{self.kind} {seed} {self.config.model_dump_json()}".encode())
        for tensor in (x, y):
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        return digest.hexdigest()

    @property
    def parameters_(self) -> xr.Dataset:
        """Classes, and the size of the network."""
        n = sum(p.numel() for p in self._net.parameters())
        return xr.Dataset(
            {
                "class_share": ("class", self._door.share, {"units": "1"}),
                "n_weights": ((), n, {"units": "1"}),
            },
            {"class": ("class", np.array(self._door.classes, dtype=object), {"units": ""})},
        )

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``class_probability (trial, class)`` of the trials in a recording's windows."""
        if not hasattr(self, "_net"):
            raise NotFittedError(f"{self.kind}: call fit (or load) before transform")
        found = self._door.read(recording)
        where = next(self._net.parameters()).device
        x = torch.as_tensor(found.trials(self._door.n_samples)).to(where)
        probability = _logits(self._net, x).double().softmax(1).cpu().numpy()
        return self._door.estimates(found, probability)

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the scores of decoders of trials (`metrics.class_scores`)."""
        estimates = self.transform(recording)
        scores = self._door.scores(estimates)
        return say_undefined(scores, recording, NO_TRIAL)

    def save(self, path: Path) -> None:
        """Write the fitted baseline into a folder."""
        refuse_unfitted(self, "_net")
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        state = {name: value.cpu() for name, value in self._net.state_dict().items()}
        torch.save({"net": state, "door": self._door.saved()}, path / "weights.pt")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        config = NetConfig.model_validate_json((path / "config.json").read_text())
        out = cls(**config.model_dump())
        state = torch.load(path / "weights.pt", weights_only=True)
        out._door = Door.of(state["door"])
        out._net = _drawn(cls.kind, out._door, 0)
        out._net.load_state_dict(state["net"])
        out._net.eval()
        return out


class EEGConformer(EEGNet):
    """EEG Conformer, likewise."""

    kind: ClassVar[str] = "eeg_conformer"


def _trials(found: Sequence[Voltages], door: Door, where: torch.device) -> tuple[Tensor, Tensor]:
    """Return trials (trial, sample, contact) with a known label, and their classes."""
    known = [door.known(v) for v in found]
    x = [v.trials(door.n_samples, k) for v, k in zip(found, known, strict=True)]
    y = [door.number(v.label[k]) for v, k in zip(found, known, strict=True)]
    return (torch.as_tensor(np.concatenate(x)).to(where),
            torch.as_tensor(np.concatenate(y)).to(where))  # fmt: skip


def _drawn(kind: str, door: Door, seed: int) -> nn.Module:
    """Return the network with random weights of the seed."""
    n_contacts = len(next(iter(door.channel.values())))
    key = int(generator(seed, f"weights-{kind}").integers(2**62))
    with torch.random.fork_rng():
        torch.manual_seed(key)
        return net_of(kind, n_contacts, door.n_samples, len(door.classes))


@torch.no_grad()
def _logits(net: nn.Module, x: Tensor) -> Tensor:
    net.eval()
    return torch.cat([net(part).float() for part in x.split(AT_ONCE)])
