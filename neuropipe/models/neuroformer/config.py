"""Parameters of the Neuroformer, with ranges and sources."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.training.settings import Training

REVISION = 2  # raised whenever the same parameters would give other numbers


class Form(NamedTuple):
    """Sizes of the network and how it is built."""

    width: int
    n_heads: int
    layers_current: int
    layers_past: int
    layers_frames: int
    layers_stimulus: int
    layers_covariates: int
    layers_state: int
    dropout: float
    heads: Literal["chained", "independent"]
    ordered: bool
    published_blocks: bool
    joined_frames: bool
    unit_weight: float
    time_weight: float
    alignment_weight: float


# Sizes and schedule of the lateral recording, the paper's main one.
FAITHFUL: dict[str, Any] = {
    "heads": "independent", "ordered": False, "width": 256, "n_heads": 8, "layers_current": 6,
    "layers_past": 6, "layers_frames": 6, "layers_stimulus": 6, "layers_covariates": 4,
    "layers_state": 6, "dropout": 0.2, "alignment_weight": 0.25, "random_offsets": False,
}  # fmt: skip
FAITHFUL_TRAINING: dict[str, Any] = {
    "epochs": 250, "batch_size": 160, "learning_rate": 1e-4, "betas": (0.9, 0.95),
    "weight_decay": 1.0, "warmup_share": 33 / 250, "final_share": 0.1, "clip_norm": 1.0,
}  # fmt: skip


class Schedule(Training):
    """How the network is trained; a batch is of windows of one session."""

    epochs: int = Field(20, ge=1, description="Passes over the training windows.")
    batch_size: int = Field(64, ge=1, description="Windows of a step.")
    learning_rate: float = Field(2e-3, gt=0, description="Largest step size of Adam.")
    betas: tuple[float, float] = Field((0.9, 0.98), description="Decay of Adam's moments.")
    weight_decay: float = Field(0.05, ge=0, description="Decoupled decay of matrices.")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="Share of steps that warm up.")
    final_share: float = Field(0.02, ge=0, le=1, description="Share of the rate at the end.")
    clip_norm: float | None = Field(1.0, gt=0, description="Longest gradient of all weights.")
    compiled: bool = Field(
        False,
        description="On a card: let torch.compile fuse the blocks, which takes a minute at first.",
    )


class Config(BaseModel):
    """What a user may set of a Neuroformer; every field has a default.

    What the preset ``faithful`` says holds where nothing else is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["default", "faithful"] = Field(
        "default",
        description="faithful: the paper's independent heads, sizes and schedule; default: chained "
        "heads, a network for recordings of minutes.",
    )
    window_bins: int = Field(5, ge=1, le=1000, description="Bins of a current window.")
    history_bins: int = Field(15, ge=1, le=10000, description="Bins of the past before it.")
    min_spikes: int = Field(
        10, ge=1, description="A unit with fewer spikes in the training data is left out."
    )
    covariates: tuple[str, ...] = Field(
        (), description="Signals of node behavior that the spikes are conditioned on."
    )
    missing_covariates: Literal["refuse", "hide"] = Field(
        "refuse",
        description="What a NaN in a covariate does: refuse stops with its name, hide keeps the "
        "bin's covariates from the network.",
    )
    stimulus: str | None = Field(
        None, description="Node of a movie, stimulus/<series>, that the spikes are conditioned on."
    )
    n_frames: int = Field(1, ge=1, le=64, description="Last frames that a window sees.")
    patch: tuple[int, int] | None = Field(
        None, description="Pixels (y, x) of a patch; none: half the height, a quarter of the width."
    )
    targets: tuple[str, ...] = Field((), description="Signals of node behavior to decode.")
    target_kind: Literal["regression", "classes"] = Field(
        "regression", description="classes: bins of equal share of the training labels."
    )
    n_classes: int = Field(10, ge=2, le=1000, description="Classes of each target.")
    objective: Literal["all", "spikes", "behavior"] = Field(
        "all", description="Which losses are trained on."
    )
    behavior_weight: float = Field(1.0, gt=0, description="Of the behaviour's loss.")
    label_share: float = Field(
        1.0, gt=0, le=1,
        description="Share of the training data, from its start, whose behaviour is used: "
        "few-shot fine-tuning.",
    )  # fmt: skip
    few_shot: tuple[float, ...] = Field(
        (),
        description="Shares of the labels, from the start: inside the training data, decoders that "
        "begin with a trunk pretrained on spikes are compared with decoders from scratch.",
    )
    few_shot_steps: int = Field(120, ge=1, description="Steps that each of these decoders takes.")
    validation_share: float = Field(
        0.1, ge=0, lt=0.9,
        description="Last share of the training data that chooses the epoch; 0: the last epoch.",
    )  # fmt: skip
    random_offsets: bool = Field(
        True, description="Cut the training windows anew in each epoch, from another bin on."
    )
    pretrained: str | None = Field(
        None, description="Folder of a saved fit to start from: its fit.json's."
    )
    trunk: Literal["free", "frozen"] = Field(
        "free", description="frozen: of a pretrained network, only new units and heads are trained."
    )
    heads: Literal["chained", "independent"] = Field(
        "chained",
        description="chained: p(time) p(unit | time); independent: the paper's p(time) p(unit).",
    )
    ordered: bool = Field(
        True, description="chained: what lies before the last spike is impossible."
    )
    width: int = Field(64, ge=8, le=4096, description="Features of a token.")
    n_heads: int = Field(2, ge=1, le=64, description="Of each attention.")
    layers_current: int = Field(1, ge=0, le=64, description="On the current spikes.")
    layers_past: int = Field(2, ge=1, le=64, description="That attend to the past.")
    layers_frames: int = Field(1, ge=0, le=64, description="On the frames.")
    layers_stimulus: int = Field(1, ge=1, le=64, description="That attend to frames.")
    layers_covariates: int = Field(1, ge=1, le=64, description="That attend to covariates.")
    layers_state: int = Field(2, ge=0, le=64, description="After the fusion.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Of what each block adds.")
    alignment_weight: float = Field(
        0.1, ge=0, lt=1,
        description="Share of the contrastive loss, where there is a stimulus or a covariate.",
    )  # fmt: skip
    training: Schedule = Field(
        default_factory=lambda: Schedule.model_validate({}), description="The schedule."
    )
    connectivity: tuple[Literal["readout", "attention", "perturbation"], ...] = Field(
        ("readout",), description="How the fit asks who drives whom."
    )
    connectivity_windows: int = Field(
        20000, ge=100, description="Training windows that it looks at, at most."
    )
    null_refits: int = Field(
        0, ge=0, le=100,
        description="Fits to data whose units are shifted circularly, each as long as the fit: "
        "what their connectivity tells noise from edges.",
    )  # fmt: skip
    n_shuffles: int = Field(
        100, ge=0, description="score: circular shifts that decoded behaviour is held against."
    )
    n_samples: int = Field(
        0, ge=0, description="transform: runs that are drawn from the model itself; 0 for none."
    )
    temperature: float = Field(1.0, gt=0, description="Of what is drawn.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Of what is drawn: the likeliest values up to this share."
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("preset") == "faithful":
            training = given.get("training", {})
            if isinstance(training, dict):
                training = {**FAITHFUL_TRAINING, **training}
            return {**FAITHFUL, **given, "training": training}
        if given.get("heads") == "independent":
            return {"ordered": False, **given}
        return given

    @model_validator(mode="after")
    def _agree(self) -> Config:
        both = sorted(set(self.covariates) & set(self.targets))
        if both:
            raise ValueError(
                f"targets: {both[0]!r} is a covariate too; what the network sees is not decoded"
            )
        if self.objective == "behavior" and not self.targets:
            raise ValueError("objective: behavior needs targets")
        if self.few_shot and (not self.targets or self.label_share < 1):
            raise ValueError("few_shot: needs targets, and all of their labels: label_share 1")
        if not all(0 < share <= 1 for share in self.few_shot):
            raise ValueError(f"few_shot: found {self.few_shot}, expected shares above 0 up to 1")
        if self.trunk == "frozen" and self.pretrained is None:
            raise ValueError("trunk: frozen needs pretrained, the fit whose trunk it is")
        if self.width % self.n_heads:
            raise ValueError(f"width: {self.width} does not divide by n_heads, {self.n_heads}")
        if self.training.patience is not None and not self.validation_share:
            raise ValueError("training.patience: needs validation_share above 0")
        if self.heads == "independent" and self.ordered:
            raise ValueError("ordered: independent heads know no order; say heads: chained")
        return self

    @property
    def form(self) -> Form:
        """What the network is built by; 0.6 and 0.4 are of the authors' code."""
        published = self.preset == "faithful"
        own = {n: getattr(self, n) for n in Form._fields if n in Config.model_fields}
        return Form(
            **own, published_blocks=published, joined_frames=published,
            unit_weight=0.6 if published else 1.0, time_weight=0.4 if published else 1.0,
        )  # fmt: skip
