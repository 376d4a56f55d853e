"""Parameters of the Neuroformer, with ranges and sources."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.training.settings import Training

REVISION = 1  # raised whenever the same parameters would give other numbers


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


DEFAULT = Form(
    width=64, n_heads=4, layers_current=1, layers_past=2, layers_frames=1, layers_stimulus=1,
    layers_covariates=1, layers_state=2, dropout=0.1, heads="chained", ordered=True,
    published_blocks=False, joined_frames=False, unit_weight=1.0, time_weight=1.0,
    alignment_weight=0.1,
)  # fmt: skip
# Sizes of the lateral recording, the paper's main one; 0.6 and 0.4 from the authors' code.
FAITHFUL = Form(
    width=256, n_heads=8, layers_current=6, layers_past=6, layers_frames=6, layers_stimulus=6,
    layers_covariates=4, layers_state=6, dropout=0.2, heads="independent", ordered=False,
    published_blocks=True, joined_frames=True, unit_weight=0.6, time_weight=0.4,
    alignment_weight=0.25,
)  # fmt: skip
DEFAULT_TRAINING = Training(
    epochs=40, batch_size=64, learning_rate=2e-3, betas=(0.9, 0.98), weight_decay=0.05,
    warmup_share=0.05, final_share=0.02, clip_norm=1.0, patience=None, precision="float32",
)  # fmt: skip
FAITHFUL_TRAINING = Training(
    epochs=250, batch_size=160, learning_rate=1e-4, betas=(0.9, 0.95), weight_decay=1.0,
    warmup_share=33 / 250, final_share=0.1, clip_norm=1.0, patience=None, precision="float32",
)  # fmt: skip


class Config(BaseModel):
    """What a user may set of a Neuroformer; every field has a default.

    A field of the network or the schedule that is none takes its preset's value.
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
    missing_covariates: Literal["refuse", "mask"] = Field(
        "refuse",
        description="What a NaN in a covariate does: refuse stops with its name, mask hides the "
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
    validation_share: float = Field(
        0.1, ge=0, lt=0.9,
        description="Last share of the training data that chooses the epoch; 0: the last epoch.",
    )  # fmt: skip
    random_offsets: bool | None = Field(
        None, description="Cut the training windows anew in each epoch, from another bin on."
    )
    pretrained: str | None = Field(
        None, description="Folder of a saved fit to start from: its fit.json's."
    )
    trunk: Literal["free", "frozen"] = Field(
        "free", description="frozen: of a pretrained network, only new units and heads are trained."
    )
    heads: Literal["chained", "independent"] | None = Field(
        None,
        description="chained: p(time) p(unit | time); independent: the paper's p(time) p(unit).",
    )
    ordered: bool | None = Field(
        None, description="chained: what lies before the last spike is impossible."
    )
    width: int | None = Field(None, ge=8, le=4096)
    n_heads: int | None = Field(None, ge=1, le=64, description="Of each attention.")
    layers_current: int | None = Field(None, ge=0, le=64, description="On the current spikes.")
    layers_past: int | None = Field(None, ge=1, le=64, description="That attend to the past.")
    layers_frames: int | None = Field(None, ge=0, le=64, description="On the frames.")
    layers_stimulus: int | None = Field(None, ge=1, le=64, description="That attend to frames.")
    layers_covariates: int | None = Field(None, ge=1, le=64, description="To covariates.")
    layers_state: int | None = Field(None, ge=0, le=64, description="After the fusion.")
    dropout: float | None = Field(None, ge=0, lt=1)
    alignment_weight: float | None = Field(
        None, ge=0, lt=1,
        description="Share of the contrastive loss, where there is a stimulus or a covariate.",
    )  # fmt: skip
    epochs: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1, description="Windows of a step.")
    learning_rate: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    patience: int | None = Field(None, ge=1, description="Epochs without a better validation.")
    precision: Literal["float32", "bfloat16"] = "float32"
    connectivity: tuple[Literal["readout", "attention", "perturbation"], ...] = Field(
        ("readout",), description="How the fit asks who drives whom."
    )
    connectivity_windows: int = Field(
        20000, ge=100, description="Training windows that it looks at, at most."
    )
    n_shuffles: int = Field(
        100, ge=0, description="Circular shifts behind every null: connectivity and decoding."
    )
    n_samples: int = Field(
        0, ge=0, description="transform: runs that are drawn from the model itself; 0 for none."
    )
    temperature: float = Field(1.0, gt=0, description="Of what is drawn.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Of what is drawn: the likeliest values up to this share."
    )

    @model_validator(mode="after")
    def _agree(self) -> Config:
        both = sorted(set(self.covariates) & set(self.targets))
        if both:
            raise ValueError(
                f"targets: {both[0]!r} is a covariate too; what the network sees is not decoded"
            )
        if self.objective == "behavior" and not self.targets:
            raise ValueError("objective: behavior needs targets")
        if self.trunk == "frozen" and self.pretrained is None:
            raise ValueError("trunk: frozen needs pretrained, the fit whose trunk it is")
        if self.form.width % self.form.n_heads:
            raise ValueError(f"width: {self.form.width} does not divide by {self.form.n_heads}")
        if self.form.heads == "independent" and self.form.ordered:
            raise ValueError("ordered: independent heads know no order; say heads: chained")
        return self

    @property
    def form(self) -> Form:
        """Sizes of the network: the preset's, with what is set changed."""
        preset = FAITHFUL if self.preset == "faithful" else DEFAULT
        own = {n: getattr(self, n) for n in Form._fields if getattr(self, n, None) is not None}
        if own.get("heads") == "independent":
            own.setdefault("ordered", False)
        return preset._replace(**own)

    @property
    def training(self) -> Training:
        """The schedule: the preset's, with what is set changed."""
        preset = FAITHFUL_TRAINING if self.preset == "faithful" else DEFAULT_TRAINING
        own = {n: getattr(self, n) for n in Training.model_fields if getattr(self, n, None)}
        if self.weight_decay is not None:
            own["weight_decay"] = self.weight_decay
        return Training(**{**preset.model_dump(), **own})

    @property
    def offsets(self) -> bool:
        """Whether training windows are cut anew in each epoch."""
        return self.preset == "default" if self.random_offsets is None else self.random_offsets
