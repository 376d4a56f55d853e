"""The training objective of MindBridge: what a batch costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from neuropipe.models.mindbridge.config import Config
from neuropipe.models.mindbridge.losses import cosines, mix, mix_clip, soft_clip, unit_mse
from neuropipe.models.mindbridge.model import Bridge
from neuropipe.training import processes

MIXED = 0.5  # share of samples that MixCo mixes, as in MindEye
Terms = dict[str, Tensor]


def embedding_terms(
    guess: Mapping[str, Tensor], batch: Mapping[str, Tensor], config: Config,
    mixed: tuple[Tensor, Tensor] | None = None, part: slice = slice(None),
) -> tuple[Tensor, Terms]:  # fmt: skip
    """Return what predicted embeddings cost, and SoftCLIP and MSE summed over heads.

    Parameters
    ----------
    guess : mapping of head to (sample, feature)
    batch : mapping
        With the true embeddings by head.
    config : Config
    mixed : weight and other, each (sample,), optional
        What MixCo did to the patterns.
    part : slice
        Rows of the batch that `guess` belongs to.

    Notes
    -----
    Of several processes that share a batch each tells the samples of all apart, and returns its
    part.
    """
    clip = mse = torch.zeros((), device=batch["image"].device)
    if mixed is not None:
        weight, other = mixed
        other = other + processes.before(len(other))
        mixed = (processes.gather(weight), processes.gather(other))
    for name, p in guess.items():
        pt, tt = cosines(processes.gather(p), processes.gather(batch[name][part]))
        clip = clip + (
            soft_clip(pt, tt, config.temperature)
            if mixed is None
            else mix_clip(pt, *mixed, config.temperature)
        )
        mse = mse + unit_mse(pt, p.shape[1])
    clip, mse = processes.part(clip), processes.part(mse)
    total = config.clip_weight * clip + config.mse_weight * mse
    return total, {"soft_clip": clip, "unit_mse": mse}


def pairs_of(batch: Mapping[str, Tensor], config: Config, into: int | None) -> list[tuple]:
    """Return the ordered pairs (from, to) of the batch's subjects that a step goes through."""
    a, b = (int(s) for s in batch["pair"])
    if into is not None:  # adaptation: from a source to the new subject
        a, b = b if a == into else a, into
    return [(a, b)] if config.cycle_pairs == "one" or a == b else [(a, b), (b, a)]


def cycle_terms(
    bridge: Bridge, x: Sequence[Tensor], code: Sequence[Tensor], batch: Mapping[str, Tensor],
    config: Config, members: Sequence[int], into: int | None,
) -> tuple[Tensor, Terms]:  # fmt: skip
    """Return what patterns that are synthesised for another subject cost.

    B_b(E_a(x_a)) is what subject b's brain would have done; its code should be E_a(x_a) again. With
    a weight on synthesised patterns it is a further trial of b: what a real trial of b shows beside
    its own reconstruction is added as noise, and a's image is to be predicted from it.
    """
    pairs = pairs_of(batch, config, into)
    weight = config.synthetic_weight if into is None else config.pseudo_weight
    cycle = synthetic = torch.zeros((), device=code[0].device)
    for a, b in pairs:
        made = bridge.build(code[a], members[b])
        again = bridge.encode(made, members[b])
        cycle = cycle + processes.part(F.mse_loss(again, code[a]), len(again)) / len(pairs)
        if weight:
            n = len(code[0])
            noise = (x[b] - bridge.build(code[b], members[b])).detach()
            guess = bridge.predict(bridge.encode(made + noise, members[b]))
            cost, _ = embedding_terms(guess, batch, config, part=slice(a * n, (a + 1) * n))
            synthetic = synthetic + cost / len(pairs)
    total = config.cycle_weight * cycle + weight * synthetic
    return total, {"cycle": cycle}


def objective(
    bridge: Bridge, config: Config, n_epochs: int, members: Sequence[int], into: int | None = None
) -> Callable[[Mapping[str, Tensor]], Terms]:
    """Return the loss of a batch, as `fit_gradient` wants it.

    Parameters
    ----------
    bridge : Bridge
    config : Config
    n_epochs : int
        Of the whole stage, for MixCo.
    members : sequence of int
        The bridge's number of each of the batches' subjects.
    into : int, optional
        Which of the batches' subjects is new, in an adaptation; the others only lend patterns.
    """
    c = config
    several = len(members) > 1 and not bridge.form.shared
    weight = c.synthetic_weight if into is None else c.pseudo_weight
    cycles = bridge.form.builds and several and (c.cycle_weight or weight)

    def loss(batch: Mapping[str, Tensor]) -> Terms:
        x = [batch[f"x{s}"] for s in range(len(members))]
        mixed = None
        seen = x
        if int(batch["epoch"]) < c.mixco_share * n_epochs:
            found = [mix(one, c.mixco_beta, MIXED) for one in x]
            seen = [f[0] for f in found]
            mixed = (
                torch.cat([f[1] for f in found]),
                torch.cat([f[2] + s * len(x[0]) for s, f in enumerate(found)]),
            )
        code = [bridge.encode(one, s) for one, s in zip(seen, members, strict=True)]
        total, terms = embedding_terms(bridge.predict(torch.cat(code)), batch, c, mixed)
        if bridge.form.builds and c.reconstruction_weight:
            back = [
                processes.part(F.mse_loss(bridge.build(h, s), one), len(one))
                for h, one, s in zip(code, seen, members, strict=True)
            ]
            terms["reconstruction"] = torch.stack(back).mean()
            total = total + c.reconstruction_weight * terms["reconstruction"]
        if cycles:
            cost, more = cycle_terms(bridge, seen, code, batch, c, members, into)
            total, terms = total + cost, {**terms, **more}
        return {"loss": total, **terms}

    return loss
