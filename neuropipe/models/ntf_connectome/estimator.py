"""The NTF connectome as an estimator: labelled arrays in, labelled arrays out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr

from neuropipe.batching.refusals import NO_PAIR, refuse_rank, say_undefined
from neuropipe.batching.trace_door import TraceDoor, enter, source_of
from neuropipe.config import build
from neuropipe.errors import DataError, NotFittedError
from neuropipe.models.ntf_connectome.batches import held, make_entries, precision_of
from neuropipe.models.ntf_connectome.config import REVISION, Config
from neuropipe.models.ntf_connectome.entries import Entries
from neuropipe.models.ntf_connectome.learned import MOST_UNITS, Learned, labelled
from neuropipe.models.ntf_connectome.model import (
    Factors,
    Outcome,
    activate,
    factorise,
    random_start,
)
from neuropipe.models.ntf_connectome.nulls import shifted
from neuropipe.models.ntf_connectome.rank import (
    Curve,
    choose,
    explained_hidden,
    hide,
    nuclear_ratio,
    stability,
)
from neuropipe.models.ntf_connectome.repeats import repeated_communities
from neuropipe.runtime import generator, pick_device
from neuropipe.schema import Recording, Var
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.processes import together

log = logging.getLogger(__name__)


class NTFConnectome:
    """Functional communities of neurons: who acts together, when, and in which animals.

    For every animal w and time t each pair p of neurons has an affinity, large where both traces
    change together. The tensor is a sum of components: a pattern of pairs c_p, an activation a_t
    and a loading b_w, none of them negative.

    Parameters
    ----------
    **settings
        Fields of `config.Config`.

    Attributes
    ----------
    parameters_ : Dataset
        What was learned: `learns`.
    history_ : Dataset
        ``objective (step)``, the relative error |X - X^| / |X| of the best start, and
        ``restart_objective (step, restart)``; attr ``converged``.

    Notes
    -----
    Source: Dyballa et al., "Learning dynamic representations of the functional connectome in
    neurobiological networks", ICLR 2024. The authors' notebook for the affinity and the
    factorisation is not public: the affinity is one of the forms that fit their text, the
    factorisation is weighted HALS or MU. Neurons are matched over animals by name; what an animal
    does not show is missing and enters no sum.

    Traces are scaled by quantiles of the training windows, per animal. Components are numbered by
    weight, the heaviest first. Patterns have length 1 and loadings a largest value of 1, so
    activations carry the units of the affinity.
    """

    reads: ClassVar[tuple[str, ...]] = ("calcium",)
    writes: ClassVar[Mapping[str, Var]] = {
        "activation": Var(("window", "component"), "1", "f", "how active, at each time"),
        "membership": Var(("unit", "component"), "1", "f", "a neuron's mean affinity, largest 1"),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "affinity": Var(
            ("component", "unit", "source_unit"), "1", "f",
            "patterns; NaN for pairs that were never seen together", optional=True,
        ),
        "pair_affinity": Var(
            ("pair", "component"), "1", "f", "the same, where there are many neurons", optional=True
        ),
        "membership": Var(("unit", "component"), "1", "f", "a neuron's mean affinity, largest 1"),
        "animal_loading": Var(("animal", "component"), "1", "f", "how strong in each animal"),
        "activation": Var(("window", "component"), "1", "f", "of the training windows"),
        "weight": Var(("component",), "1", "f", "share of the summed component energies"),
        "restart_error": Var(("restart",), "1", "f", "relative error of each start"),
        "restart_similarity": Var(("restart",), "1", "f", "congruence with the best start"),
        "explained_variance": Var((), "1", "f", "of the training entries"),
        "community": Var(
            ("component", "unit"), "1", "i", "community in each component", optional=True
        ),
        "community_of_restart": Var(
            ("restart", "component", "unit"), "1", "i", "of each start", optional=True
        ),
        "community_of_animal": Var(
            ("animal", "component", "unit"), "1", "i",
            "of each animal alone; -1 where it does not show the neuron", optional=True,
        ),
        "community_of_half": Var(
            ("half", "component", "unit"), "1", "i", "of every other stretch of time",
            optional=True,
        ),
        "rank_held_out": Var(
            ("rank", "repeat"), "1", "f", "explained share of hidden entries", optional=True
        ),
        "rank_stability": Var(("rank",), "1", "f", "congruence of restarts", optional=True),
        "rank_nuclear": Var(
            ("rank", "restart"), "1", "f", "variances over the largest one", optional=True
        ),
        "null_explained_variance": Var(
            ("shuffle",), "1", "f", "of circularly shifted traces", optional=True
        ),
        "null_p": Var((), "1", "f", "chance that a shuffle explains as much", optional=True),
    }  # fmt: skip

    def __init__(self, **settings: Any) -> None:
        self.config = build(Config, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Learn from the windows of one or several animals.

        Parameters
        ----------
        recordings : sequence of DataTree
            One animal (or session) each, with traces of named neurons and, where a fold has set
            it, node ``windows``.
        seed : int
            Of restarts, hidden entries, shuffles and communities.
        device : str
            ``auto``, ``cpu`` or a CUDA device.
        checkpoint : Path, optional
            File that the fit resumes from and keeps its progress in.

        Raises
        ------
        DataError
            If traces are NaN or constant, names come twice, fewer than two neurons are left, or
            the rank is beyond what the tensor's size allows.
        """
        config, where = self.config, pick_device(device)
        door, _, found = enter(recordings, source_of(config))
        units = door.units
        entries = make_entries(found, config, where, precision_of(found, config, where))
        self._check(entries)
        kept = Checkpoint(checkpoint, self._fingerprint(entries, units, seed))
        log.info(
            "ntf_connectome: %d neurons, %d animals, %d windows, %s", len(units), len(door.animals),
            len(found.window), where,
        )  # fmt: skip
        with together():
            rank, outcome, curve = self._choose(entries, seed, kept)
            log.info("ntf_connectome: rank %d of %s", rank, list(config.ranks))
            null = self._null(entries, rank, seed, kept)
        learned = Learned.of(outcome, entries, door.animals, units)
        self._learned, self._door = learned, door
        repeats = {}
        if config.community_repeats and len(units) <= MOST_UNITS:
            whole = held(entries, config)
            repeats = repeated_communities(learned, outcome, whole, config, seed=seed)
        self.parameters_ = labelled(
            learned, config, door.clock, found, outcome, curve, null, repeats, seed=seed
        )  # fmt: skip
        error = outcome.error.cpu().numpy()
        self.history_ = xr.Dataset(
            {
                "objective": ("step", error[:, outcome.best], {"units": "1"}),
                "restart_objective": (("step", "restart"), error, {"units": "1"}),
            },
            attrs={"converged": int(outcome.converged[outcome.best])},
        )
        if not outcome.converged[outcome.best]:
            log.warning(
                "ntf_connectome: the error still falls after %d sweeps; raise max_sweeps",
                config.max_sweeps,
            )
        return self

    def _check(self, x: Entries) -> None:
        """Refuse a tensor without a single affinity, and ranks that no such tensor can have."""
        if x.total <= 0:
            raise DataError(
                "ntf_connectome: no two neurons ever change together, all affinities are zero; "
                "check the traces and smoothing_windows"
            )
        n_animals = len(x.rows_of)
        shape = (x.n_times, n_animals, x.n_pairs)
        refuse_rank("ntf_connectome", max(self.config.ranks), shape)
        if n_animals == 1:
            log.info("ntf_connectome: one animal: patterns are those of a matrix, not unique")

    def _fingerprint(self, x: Entries, units: Sequence[str], seed: int) -> str:
        text = f"{REVISION} {seed} {self.config.model_dump_json()} {list(units)}"
        digest = hashlib.sha256(text.encode())
        for tensor in (x.data, x.time, x.kind, x.present):
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        return digest.hexdigest()

    def _solve(self, x: Entries, rank: int, stage: str, seed: int, kept: Checkpoint) -> Outcome:
        """Fit one tensor from all starts, or go on where a checkpoint stopped."""
        c = self.config
        saved, resume = kept.get(stage), None
        if saved is not None:
            where = x.data.device
            factors = Factors(*(saved[n].to(where) for n in Factors._fields))
            resume = Outcome(factors, saved["error"], saved["converged"])
            if saved["done"]:
                return resume

        def keep(state: Outcome, done: bool = False) -> None:
            kept.put(
                stage,
                {**{n: f.cpu() for n, f in state.factors._asdict().items()}, "error": state.error,
                 "converged": state.converged},
                done=done,
            )  # fmt: skip

        outcome = factorise(
            x, random_start(x, rank, c.n_restarts, generator(seed, f"start-{stage}")),
            rule=c.update, rounds=c.inner_rounds, max_sweeps=c.max_sweeps, tolerance=c.tolerance,
            shrink=c.shrinkage, resume=resume, keep=keep,
        )  # fmt: skip
        keep(outcome, done=True)
        return outcome

    def _choose(
        self, x: Entries, seed: int, kept: Checkpoint
    ) -> tuple[int, Outcome, Curve | None]:  # fmt: skip
        """Fit every rank and choose one."""
        c, ranks = self.config, self.config.ranks
        whole = held(x.share(), c)
        outcomes = [self._solve(whole, r, f"rank-{r}", seed, kept) for r in ranks]
        if len(ranks) == 1:
            return ranks[0], outcomes[0], None
        n_repeats = c.held_out_repeats if c.rank_choice in ("combined", "held_out") else 0
        scores = np.full((len(ranks), max(n_repeats, 1)), np.nan)
        for repeat in range(n_repeats):
            rng = generator(seed, f"hidden-{repeat}")
            seen = held(hide(x, c.held_out_share, c.held_out_blocks, rng).share(), c)
            for n, r in enumerate(ranks):
                outcome = self._solve(seen, r, f"rank-{r}-hidden-{repeat}", seed, kept)
                scores[n, repeat] = explained_hidden(
                    whole, seen, outcome.factors.of([outcome.best])
                )
        curve = Curve(
            scores,
            np.array([stability(o) for o in outcomes]),
            np.array([[nuclear_ratio(p) for p in o.factors.pair] for o in outcomes]),
        )
        rank = choose(ranks, curve, c.rank_choice, c.min_stability)
        return rank, outcomes[ranks.index(rank)], curve

    def _null(self, x: Entries, rank: int, seed: int, kept: Checkpoint) -> np.ndarray:
        """Return the explained variance of shifted traces, as many starts as the data had."""
        found = []
        for n in range(self.config.n_shuffles):
            moved = held(shifted(x, generator(seed, f"shuffle-{n}")).share(), self.config)
            outcome = self._solve(moved, rank, f"shuffle-{n}", seed, kept)
            found.append(1 - float(outcome.error[-1].min()) ** 2)
        return np.array(found)

    def _entries(
        self, recording: Recording
    ) -> tuple[Entries, np.ndarray, torch.Tensor]:  # fmt: skip
        """Read a recording as the model knows it: entries, windows and its animal's loading."""
        if not hasattr(self, "_learned"):
            raise NotFittedError("NTFConnectome: call fit (or load) before transform and score")
        learned, config = self._learned, self.config
        found, place = self._door.read(recording), self._door.place(recording)
        entries = make_entries(found, config, learned.pair.device, learned.pair.dtype)
        loading = learned.animal.mean(0) if place is None else learned.animal[place]
        return held(entries, config), found.window, loading[None]

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return when each component is active in a recording's windows.

        Returns
        -------
        Dataset
            ``activation (window, component)``, refitted with patterns and the animal's loading
            held (of an animal that training did not show: the mean loading), and ``membership
            (unit, component)`` of the model's neurons; ``time (window)`` in s from session start.
        """
        x, window, loading = self._entries(recording)
        activation, _ = activate(x, self._learned.pair, loading)
        return xr.Dataset(
            {
                "activation": (
                    ("window", "component"), activation.cpu().numpy().astype(np.float32),
                    {"units": "1"},
                ),
                "membership": (
                    ("unit", "component"), self._learned.membership().astype(np.float32),
                    {"units": "1"},
                ),
            },
            {
                "time": ("window", self._door.seconds(window), {"units": "s"}),
                "unit": ("unit", np.array(self._learned.units, dtype=object), {"units": ""}),
            },
        )  # fmt: skip

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the explained variance of a recording's windows.

        Returns
        -------
        dict
            ``explained_variance``: 1 - |X - X^|^2 / |X|^2 over the affinities of the pairs that
            the recording shows.

        Notes
        -----
        Patterns and loadings are those of the training data. Activations belong to the held-out
        times and are refitted there by non-negative least squares, R numbers for all pairs of a
        window. So the score asks whether the learned patterns describe new data: held-out blocks
        of time with the animal's own loading, new animals with the mean one (which matters only
        where a loading is zero, since activations are free). It rises with the rank even where
        patterns are noise; ranks are compared by hidden entries instead (`rank`).
        """
        x, _, loading = self._entries(recording)
        if x.total <= 0:
            return say_undefined({"explained_variance": float("nan")}, recording, NO_PAIR)
        _, lost = activate(x, self._learned.pair, loading)
        return {"explained_variance": 1 - lost / x.total}

    def save(self, path: Path) -> None:
        """Write ``config.json`` and ``weights.pt`` into a folder that exists."""
        if not hasattr(self, "_learned"):
            raise NotFittedError("NTFConnectome: nothing to save before fit")
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        learned = self._learned
        torch.save(
            {
                "pair": learned.pair.cpu(), "animal": learned.animal.cpu(),
                "time": learned.time.cpu(), "seen": learned.seen.cpu(),
                **self._door.saved(),
            },
            path / "weights.pt",
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; transform and score then work as after fit, on CPU."""
        config = Config.model_validate_json((path / "config.json").read_text())
        out = cls(**config.model_dump())
        s = torch.load(path / "weights.pt", weights_only=True)
        learned = Learned(
            s["time"], s["animal"], s["pair"], s["seen"], tuple(s["animals"]), tuple(s["units"])
        )
        out._learned, out._door = learned, TraceDoor.of(source_of(config), s)
        return out
