"""How many trials a new subject needs: an experiment inside the training data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neuropipe.errors import DataError
from neuropipe.models.mindbridge import start
from neuropipe.models.mindbridge.adapting import adapt_bridge
from neuropipe.models.mindbridge.batches import Patterns, targets_of
from neuropipe.models.mindbridge.bridging import Fitted, fit_bridge
from neuropipe.models.mindbridge.config import Config
from neuropipe.retrieval import cosines, two_way_identification
from neuropipe.runtime import generator
from neuropipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)

APPROACHES = ("adapted", "from scratch", "ridge")
LEAST_JUDGED = 10


def identified(guess: Tensor, p: Patterns, unit: Tensor, center: Tensor) -> float:
    """Return the two-way identification of a subject's stimuli from predicted embeddings."""
    true = unit[p.row] - center
    return two_way_identification(cosines((guess - center).cpu().numpy(), true.cpu().numpy()))


def ridge_guess(train: Patterns, test: Patterns, unit: Tensor) -> Tensor:
    """Return embeddings by ridge regression of one subject, its strength cross-validated."""
    found = start.components(unit[train.row], len(train.row))
    z, x = found.of(unit[train.row].double()), train.mean.double()
    [kind] = start.choices([start.compared(z, x, found.sd, [], ["ridge"])])
    linear = start.fit_linear(z, x, [], kind)
    z_test = test.mean.double() @ linear.decode + linear.decode_offset
    return (z_test * found.sd) @ found.basis.T + found.mean


@torch.no_grad()
def guess_of(fitted: Fitted, p: Patterns) -> Tensor:
    """Return predicted image embeddings of a subject's mean patterns."""
    return fitted.predict(p.mean, p.name)["image"]


def adaptation_curve(
    data: Sequence[Patterns], unit: Mapping[str, Tensor], config: Config, *, seed: int,
    kept: Checkpoint,
) -> xr.Dataset:  # fmt: skip
    """Leave out the last subject, adapt to it with few stimuli, and judge on others of its own.

    Returns
    -------
    Dataset
        ``adaptation_two_way (approach, n_stimuli)``: the bridge of the other subjects adapted to
        it, the same network from scratch, and ridge regression, all with the same stimuli and
        judged on the same ones, which no subject's fit was shown; attr ``new_subject``.
    """
    *others, new = data
    numbers = sorted(config.adaptation_trials)
    n_judged = len(new.row) - numbers[-1]
    if not others or n_judged < LEAST_JUDGED:
        raise DataError(
            f"adaptation_trials: {numbers[-1]} of {len(new.row)} stimuli of subject {new.name} and "
            f"{len(others)} other subjects: expected another subject and {LEAST_JUDGED} stimuli "
            "more, to judge on; lower it"
        )
    order = torch.as_tensor(
        generator(seed, "curve").permutation(len(new.row)), device=new.row.device
    )
    place = torch.argsort(order)
    judged = new.only(place >= numbers[-1])
    lent = [p.only(~torch.isin(p.row, judged.row)) for p in others]
    source = fit_bridge(lent, unit, config, seed=seed, stage="curve-source", kept=kept)
    alone = config.model_copy(update={"mode": "single"})
    found = np.full((len(APPROACHES), len(numbers)), np.nan)
    for column, n in enumerate(numbers):
        few = new.only(place < n)
        center = targets_of(unit, few.row, True).mean["image"]
        adapted = adapt_bridge(
            source, few, lent, unit, config, seed=seed, stage=f"curve-{n}", kept=kept
        )
        scratch = fit_bridge([few], unit, alone, seed=seed, stage=f"curve-{n}-alone", kept=kept)
        guesses = (
            guess_of(adapted, judged), guess_of(scratch, judged),
            ridge_guess(few, judged, unit["image"]).float(),
        )  # fmt: skip
        found[:, column] = [identified(g, judged, unit["image"], center) for g in guesses]
        said = dict(zip(APPROACHES, found[:, column].round(3).tolist(), strict=True))
        log.info("mindbridge: %d stimuli of %s: two-way %s", n, new.name, said)
    return xr.Dataset(
        {"adaptation_two_way": (("approach", "n_stimuli"), found, {"units": "1"})},
        {
            "approach": ("approach", np.array(APPROACHES, dtype=object), {"units": ""}),
            "n_stimuli": ("n_stimuli", np.array(numbers), {"units": "1"}),
        },
        {"new_subject": new.name, "n_judged": len(judged.row)},
    )
