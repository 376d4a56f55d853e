"""The course of a stage of training, and whether it has come to rest."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xarray as xr

FLAT = 0.01  # of the whole fall of the loss: what a converged fit still gains in a tenth of it


@dataclass
class History:
    """The course of one stage: means over each epoch.

    Attributes
    ----------
    terms : dict of list, one number an epoch
        What the loss function returned, ``loss`` among them.
    validation : list, one number a validation
        Lower is better; empty without a validation.
    best : int
        Epoch whose weights were kept.
    slowed : int
        How often the rate was halved after a loss that was not finite.
    seconds : float
        Time spent, that before an interruption included.
    """

    terms: dict[str, list[float]] = field(default_factory=dict)
    validation: list[float] = field(default_factory=list)
    best: int = 0
    slowed: int = 0
    seconds: float = 0.0

    @property
    def converged(self) -> bool:
        """Whether the last tenth of the epochs gained less than 1 % of the whole fall, or no more
        than epochs differ by chance: a fit that starts at its floor only jitters.
        """
        loss = np.array(self.terms.get("loss", []))
        tenth = len(loss) // 10
        if tenth == 0:
            return False
        gain = loss[-2 * tenth : -tenth].mean() - loss[-tenth:].mean()
        # of steps from epoch to epoch, so that a steady fall counts as no jitter
        jitter = np.diff(loss[-2 * tenth :]).std() / np.sqrt(2)
        chance = 2 * jitter * np.sqrt(2 / tenth)
        return bool(gain <= max(FLAT * abs(loss[0] - loss[-tenth:].mean()), chance))

    def dataset(self, units: str = "nats") -> xr.Dataset:
        """Return the course as ``objective (step)``, one step an epoch, and the other terms."""
        out = {
            "objective" if name == "loss" else name: ("step", np.array(course), {"units": units})
            for name, course in self.terms.items()
        }
        if self.validation:
            out["validation"] = ("step", np.array(self.validation), {"units": units})
        return xr.Dataset(
            out,
            attrs={
                "converged": int(self.converged),
                "best_step": self.best,
                "slowed": self.slowed,
                "seconds": round(self.seconds, 3),
            },
        )
