"""A trained network with all that it needs to look at a recording, in memory and on disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from neuropipe.batching.raster import Raster
from neuropipe.batching.tokens import Windows, cut_windows, tokens_between
from neuropipe.errors import ConfigError, DataError
from neuropipe.models.neuroformer.attention import Rows
from neuropipe.models.neuroformer.batches import in_batches
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.model import Network
from neuropipe.models.neuroformer.rates import expected_counts
from neuropipe.models.neuroformer.scaling import Scaling, read, sizes_of
from neuropipe.schema import Recording

log = logging.getLogger(__name__)


class Pass(NamedTuple):
    """What one pass over the windows of a session says.

    Attributes
    ----------
    windows : Windows
    time, unit : float, nats
        Log-likelihood of all times, and of all units given the times.
    n_tokens : int
        Spikes, and one end a window.
    expected : (bin, unit)
        Expected counts; empty where they were not asked for.
    decoded : (window, target) or None
        In the channels' own units.
    """

    windows: Windows
    time: float
    unit: float
    n_tokens: int
    expected: np.ndarray
    decoded: np.ndarray | None


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes
    ----------
    config : Config
    network : Network
        In evaluation mode.
    scaling : Scaling
    room : int
        Most spikes of a drawn window.
    trained : mapping of session to (stretch, 2), s
        What it was trained on.
    earlier : mapping of session to (stretch, 2), s
        What the networks that it began from were trained on.
    """

    config: Config
    network: Network
    scaling: Scaling
    room: int
    trained: Mapping[str, np.ndarray]
    earlier: Mapping[str, np.ndarray]

    def read(self, recording: Recording) -> Raster:
        """Read a recording as the network knows it.

        Raises
        ------
        DataError
            If its units were not in the training data, or its bins, frames or units of signals
            differ.
        """
        raster = read(recording, self.config)
        known = self.scaling.units
        if raster.key not in known:
            raise DataError(
                f"neuroformer: the units of session {raster.key} were not in the training data "
                f"({', '.join(known)}); fit it too, with pretrained set to this fit"
            )
        if abs(raster.bin_width_s - self.scaling.bin_width_s) > 1e-9:
            raise DataError(
                f"neuroformer: {raster.key} has bins of {raster.bin_width_s:g} s, the training "
                f"data of {self.scaling.bin_width_s:g} s"
            )
        self._alike(raster)
        raster = raster.only(known[raster.key])
        seen = overlap(raster, self.earlier.get(raster.key))
        if seen and not overlap(raster, self.trained.get(raster.key)):
            log.warning(
                "neuroformer: %s: the pretrained network has seen these windows; what it scores "
                "on them is not held out", raster.key,
            )  # fmt: skip
        return raster

    def _alike(self, raster: Raster) -> None:
        """Refuse frames of another size, and signals in other units, than the training data's."""
        frame = None if raster.movie is None else raster.movie.pixel.shape[1:]
        if frame != self.scaling.frame:
            raise DataError(
                f"neuroformer: {raster.key} has frames of {frame} pixels, the training data of "
                f"{self.scaling.frame}; prepare all movies alike"
            )
        if raster.channel_units != self.scaling.channel_units:
            raise DataError(
                f"neuroformer: signals of {raster.key} are in {raster.channel_units}, of the "
                f"training data in {self.scaling.channel_units}; bring them to one unit"
            )

    @torch.no_grad()
    def run(self, raster: Raster, *, rates: bool) -> Pass:
        """Pass over all windows of a session, for rates or for likelihoods."""
        network, config = self.network, self.config
        windows = cut_windows(raster, config.window_bins, config.history_bins)
        device = next(network.parameters()).device
        time = unit = 0.0
        n_tokens, expected, decoded = 0, [np.zeros((0, len(raster.unit)))], []
        lag = np.arange(config.window_bins)
        several = torch.as_tensor(self.scaling.several[raster.key]).to(device)
        for part, batch in in_batches(raster, windows, self.scaling, config, device):
            state = network(batch)
            if rates:
                found = expected_counts(network, state, batch, several).cpu().numpy()
                expected.append(found[lag < part.size[:, None]])
            else:
                log_time, log_unit = network.log_probability(state, batch)
                time += float(log_time.double().sum())
                unit += float(log_unit.double().sum())
                n_tokens += len(log_time)
            if network.behavior is not None:
                out = network.decode(state, Rows(batch["mask"], batch["flat"]))
                decoded.append(self._unscaled(out.double().cpu().numpy()))
        return Pass(
            windows, time, unit, n_tokens, np.concatenate(expected),
            np.concatenate(decoded) if decoded else None,
        )  # fmt: skip

    def _unscaled(self, out: np.ndarray) -> np.ndarray:
        """Return the behaviour head's output in the channels' own units, (window, target)."""
        if self.network.sizes.n_classes:
            return (np.exp(out) * self.scaling.centers).sum(-1)
        n = len(self.config.covariates)
        return out * self.scaling.sd[n:] + self.scaling.mean[n:]

    def save(self, path: Path) -> None:
        """Write ``config.json`` and ``weights.pt`` into a folder that exists."""
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        s = self.scaling
        torch.save(
            {
                "network": {k: v.cpu() for k, v in self.network.state_dict().items()},
                "units": {k: v.tolist() for k, v in s.units.items()},
                "rate": _tensors(s.rate), "several": _tensors(s.several),
                "trained": _tensors(self.trained),
                "earlier": _tensors(self.earlier), "mean": torch.as_tensor(s.mean),
                "sd": torch.as_tensor(s.sd), "edges": torch.as_tensor(s.edges),
                "centers": torch.as_tensor(s.centers), "pixel": list(s.pixel),
                "frame": None if s.frame is None else list(s.frame),
                "channel_units": list(s.channel_units), "bin_width_s": s.bin_width_s,
                "room": self.room,
            },
            path / "weights.pt",
        )  # fmt: skip


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {k: torch.as_tensor(v) for k, v in arrays.items()}


def load(path: Path) -> Fitted:
    """Read what `Fitted.save` wrote, on CPU."""
    config = Config.model_validate_json((path / "config.json").read_text())
    s = torch.load(path / "weights.pt", weights_only=True)
    frame = s["frame"]
    scaling = Scaling(
        units={k: np.array(v) for k, v in s["units"].items()},
        rate={k: v.numpy() for k, v in s["rate"].items()},
        several={k: v.numpy() for k, v in s["several"].items()},
        mean=s["mean"].numpy(), sd=s["sd"].numpy(), edges=s["edges"].numpy(),
        centers=s["centers"].numpy(), pixel=(s["pixel"][0], s["pixel"][1]),
        frame=None if frame is None else (frame[0], frame[1]),
        channel_units=tuple(s["channel_units"]), bin_width_s=s["bin_width_s"],
    )  # fmt: skip
    network = Network.blank(config.form, sizes_of(scaling, config)).eval()
    network.load_state_dict(s["network"])
    trained, earlier = (
        {k: v.numpy() for k, v in s[name].items()} for name in ("trained", "earlier")
    )
    return Fitted(config, network, scaling, s["room"], trained, earlier)


def load_pretrained(path: str) -> Fitted:
    """Return the fit that `pretrained` names.

    Raises
    ------
    ConfigError
        If the folder holds none.
    """
    folder = Path(path)
    missing = [n for n in ("config.json", "weights.pt") if not (folder / n).is_file()]
    if missing:
        raise ConfigError(
            f"neuroformer: pretrained {path}: no {' and no '.join(missing)}; name the folder of a "
            "saved Neuroformer, such as results/fit/<run>/neuroformer/fold-0"
        )
    return load(folder)


def room_for(rasters: Sequence[Raster], config: Config) -> int:
    """Return how many spikes a drawn window has room for: twice the fullest one, and some."""
    most = 0
    for raster in rasters:
        w = cut_windows(raster, config.window_bins, 0)
        most = max(most, int(tokens_between(raster, w.start, w.start + w.size).length.max()))
    return 2 * most + 8


def stretches_of(raster: Raster) -> np.ndarray:
    """Return the edges of a raster's stretches, (stretch, 2), s."""
    half = raster.bin_width_s / 2
    return np.stack([raster.time[raster.first] - half, raster.time[raster.stop - 1] + half], 1)


def overlap(raster: Raster, edges: np.ndarray | None) -> bool:
    """Return whether any stretch of a raster meets any of some edges (stretch, 2), s."""
    if edges is None:
        return False
    own, near = stretches_of(raster), raster.bin_width_s / 10
    meets = (own[:, None, 0] < edges[:, 1] - near) & (own[:, None, 1] > edges[:, 0] + near)
    return bool(meets.any())
