"""Parameters of the NTF connectome, with ranges and sources."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

REVISION = 2  # raised whenever the same parameters would give other numbers


class Config(BaseModel):
    """What a user may set of an NTF connectome; every field has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observations: str = Field(
        "auto",
        description="Node of the traces: calcium/<series>, counts or regions; auto takes the only "
        "calcium series, else regions, else counts.",
    )
    response: str | None = Field(
        None, description="Variable of that node; by default dff before fluorescence."
    )
    missing: Literal["refuse", "drop"] = Field(
        "refuse",
        description="What a NaN or constant trace does: refuse stops with its name, drop treats "
        "the neuron as missing in that animal.",
    )
    min_spikes: int = Field(
        10, ge=1, description="counts: a unit with fewer spikes in all training data is left out."
    )
    clock: Literal["shared", "own"] = Field(
        "shared",
        description="shared: all animals go through the same times from session start (stimuli), "
        "and share activations; own: each recording has times of its own (rest).",
    )
    window_s: float | None = Field(
        None, gt=0, description="Step of the common clock; none: that of the recordings."
    )
    smoothing_windows: float = Field(
        2.0, gt=0, le=100,
        description="Sd of the Gaussian whose derivative filters the traces, in windows.",
    )  # fmt: skip
    affinity: Literal["geo", "prod", "min", "minpos"] = Field(
        "geo",
        description="Affinity of two derivatives; the authors' exact formula is not public, geo "
        "recovers planted groups best.",
    )
    rank: int | tuple[int, ...] = Field(
        8, description="Components; of several numbers one is chosen inside the training data."
    )
    rank_choice: Literal["combined", "held_out", "stability", "knee"] = Field(
        "combined",
        description="combined: lowest rank within one standard error of the best held-out score "
        "among stable ones; knee: the criterion of the authors' sister project.",
    )
    min_stability: float = Field(
        0.8, gt=0, le=1, description="Congruence over restarts from which a rank counts as stable."
    )
    n_restarts: int = Field(5, ge=1, description="Random starts; the best one is kept.")
    update: Literal["hals", "mu"] = Field("hals", description="Rule of the updates.")
    inner_rounds: int = Field(3, ge=1, le=50, description="Updates of a factor per contraction.")
    max_sweeps: int = Field(300, ge=1)
    tolerance: float = Field(
        1e-6, ge=0, description="Fall of the relative error, a sweep, that counts as converged."
    )
    shrinkage: float = Field(
        0.1, ge=0,
        description="Where entries are missing: weight of a pair's missing evidence, which is "
        "taken to show its component's mean. Without any, pairs that were seen only where a "
        "component is absent are noise.",
    )  # fmt: skip
    held_out_share: float = Field(
        0.15, gt=0, lt=0.7,
        description="Rank choice: share of neurons hidden in each animal and block of time.",
    )  # fmt: skip
    held_out_blocks: int = Field(5, ge=2, description="Rank choice: blocks of time.")
    held_out_repeats: int = Field(3, ge=1, description="Rank choice: draws of hidden entries.")
    storage: Literal["auto", "stored", "codes", "on_the_fly"] = Field(
        "auto",
        description="Affinities in memory as floats or as 8-bit codes, or made anew in each pass; "
        "auto stores up to 256 MiB.",
    )
    precision: Literal["auto", "float32", "float64"] = Field(
        "auto", description="auto: float64 for stored affinities on a CPU, else float32."
    )
    n_shuffles: int = Field(
        0, ge=0, description="Refits of circularly shifted traces that the fit is tested against."
    )
    communities: Literal["none", "sbm", "assortative", "modularity", "consensus"] = Field(
        "sbm",
        description="Communities of each component's graph: weighted block model; what keeps to "
        "itself beyond the strength of its nodes; modularity; or the consensus of the three.",
    )
    weight_family: Literal["exponential", "gamma", "normal"] = "exponential"
    degree_corrected: bool = Field(
        False, description="Degree correction merges true blocks of dense factors."
    )
    nested: bool = Field(False, description="So does nesting.")
    resolution: float = Field(1.0, gt=0, description="Of modularity.")
    n_blocks: int | None = Field(
        None, ge=1,
        description="sbm, assortative: a known number of communities in each graph; inferred "
        "without it.",
    )  # fmt: skip
    community_repeats: bool = Field(
        False,
        description="Find the communities again in every start, animal and half of the data, for "
        "their stability; as many times the cost of the communities.",
    )

    @model_validator(mode="after")
    def _agree(self) -> Config:
        ranks = (self.rank,) if isinstance(self.rank, int) else self.rank
        if not ranks or min(ranks) < 1 or max(ranks) > 200 or len(set(ranks)) < len(ranks):
            raise ValueError(f"rank: found {self.rank}, expected different numbers from 1 to 200")
        if len(ranks) > 1 and self.rank_choice != "held_out" and self.n_restarts < 2:
            raise ValueError(
                f"rank_choice: {self.rank_choice} compares restarts; set n_restarts to 2 or more"
            )
        if self.n_blocks is not None and self.communities not in ("sbm", "assortative"):
            raise ValueError(
                f"n_blocks: communities {self.communities!r} cannot be told their number; choose "
                "sbm or assortative"
            )
        if self.community_repeats and self.communities == "none":
            raise ValueError("community_repeats: communities is none; choose a method or leave out")
        return self

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks to try, in rising order."""
        return (self.rank,) if isinstance(self.rank, int) else tuple(sorted(self.rank))
