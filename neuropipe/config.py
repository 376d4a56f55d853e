"""The run configuration: what is analysed and how; unknown keys are refused with a hint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from neuropipe.errors import ConfigError
from neuropipe.registry import hint, resolve

Model = TypeVar("Model", bound=BaseModel)

# Names that a run may use; kept as text because this module is read while the job graph is built.
PARAMETERS = {
    "du_in": "neuropipe.models.du_in.config:Config",
    "hmm_glm": "neuropipe.models.hmm_glm.config:Config",
    "mm_gpvae": "neuropipe.models.mm_gpvae.config:Config",
    "neuroformer": "neuropipe.models.neuroformer.config:Config",
    "ntf_connectome": "neuropipe.models.ntf_connectome.config:Config",
    "band_power_lda": "neuropipe.baselines.config:BandPowerConfig",
    "band_power_logistic": "neuropipe.baselines.config:BandPowerConfig",
    "du_in_from_scratch": "neuropipe.models.du_in.config:ScratchConfig",
    "du_in_unquantised": "neuropipe.models.du_in.config:PointsConfig",
    "eeg_conformer": "neuropipe.baselines.config:NetConfig",
    "eegnet": "neuropipe.baselines.config:NetConfig",
    "gru_decoder": "neuropipe.baselines.window_config:WindowNetConfig",
    "lagged_correlation": "neuropipe.baselines.window_config:LaggedConfig",
    "mlp_decoder": "neuropipe.baselines.window_config:WindowNetConfig",
    "reduced_rank": "neuropipe.baselines.window_config:ReducedRankConfig",
    "ridge_decoder": "neuropipe.baselines.window_config:WindowedDecoderConfig",
    "mindbridge": "neuropipe.models.mindbridge.config:Config",
    "hyperalignment": "neuropipe.baselines.config:SharedConfig",
    "mean_embedding": "neuropipe.baselines.config:EmbeddingConfig",
    "shared_response": "neuropipe.baselines.config:SharedConfig",
    "shuffled_bridge": "neuropipe.models.mindbridge.config:Config",
    "subject_ridge": "neuropipe.baselines.config:RidgeConfig",
    "homogeneous_rate": "neuropipe.baselines.config:RateConfig",
    "poisson_glm": "neuropipe.baselines.config:GLMConfig",
    "gaussian_glm": "neuropipe.baselines.config:GLMConfig",
    "poisson_hmm": "neuropipe.baselines.config:HMMConfig",
    "plain_cp": "neuropipe.baselines.config:CPConfig",
    "static_correlation": "neuropipe.baselines.config:CorrelationConfig",
    "gpfa": "neuropipe.baselines.config:GPFAConfig",
    "pca_regression": "neuropipe.baselines.config:PCAConfig",
    "smoothed_factors": "neuropipe.baselines.config:FactorsConfig",
    "unshared_gpvae": "neuropipe.models.mm_gpvae.config:Config",
    "windowed_correlation": "neuropipe.baselines.config:WindowedConfig",
}
THRESHOLDS = {"quality": "neuropipe.quality.thresholds:Thresholds"}
NAME = r"^[a-z0-9][a-z0-9_]*$"


class Frozen(BaseModel):
    """A block of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Dataset(Frozen):
    """One data set of the study."""

    manifest: str = Field(description="Path of its manifest (.yaml), from the working folder.")
    sessions: tuple[str, ...] | Literal["all"] = Field(
        "all", description="Session ids of the manifest to use."
    )
    optional: bool = Field(
        False, description="Leave it out, with one line, when it cannot be fetched."
    )
    accept_terms: bool = Field(False, description="You have read and accept the data's terms.")
    preprocess: tuple[dict[str, Any], ...] = Field(
        (), description="Steps in order: {step: name, parameters...}."
    )

    @field_validator("sessions")
    @classmethod
    def _once(cls, sessions: tuple[str, ...] | str) -> tuple[str, ...] | str:
        twice = sorted({s for s in sessions if sessions.count(s) > 1}) if sessions != "all" else []
        if twice:
            raise ValueError(f"session {twice[0]!r} is listed twice; its data would count double")
        if not sessions:
            raise ValueError("no session is listed; say all, or name one")
        return sessions

    @field_validator("preprocess")
    @classmethod
    def _named(cls, steps: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for number, step in enumerate(steps):
            if "step" not in step:
                raise ValueError(f"step {number} lacks the key 'step': {step}")
        return steps


class Split(Frozen):
    """How held-out data are chosen."""

    by: Literal["trial", "block", "run", "stimulus", "session", "subject"] = Field(
        description="What is held out together."
    )
    folds: int = Field(5, ge=2)
    buffer_s: float = Field(
        0.0, ge=0, description="Training data nearer than this to held-out data are left out."
    )
    window_s: float | None = Field(
        None, gt=0, description="Length of windows that a recording without trials is cut to."
    )
    blocks_per_fold: int = Field(1, ge=1, description="Separate stretches that a fold holds out.")
    column: str = Field(
        "stimulus", description="By stimulus: trials that agree in this column stay together."
    )


class Run(Frozen):
    """One model on one data set, with its baselines."""

    model: str = Field(description="Name of the model.")
    dataset: str = Field(description="Key under `datasets`.")
    seed: int = Field(ge=0, description="Of splits, restarts and bootstraps.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of the model; see its config."
    )
    split: Split
    baselines: dict[str, dict[str, Any]] | tuple[str, ...] = Field(
        (), description="Names of baselines, or a mapping of name to parameters."
    )
    figures: tuple[str, ...] | Literal["all"] = "all"
    tables: tuple[str, ...] | Literal["all"] = "all"

    def estimators(self) -> dict[str, dict[str, Any]]:
        """Return parameters by estimator: the model first, then its baselines.

        A baseline takes the model's value of every setting that both have (observations,
        covariates, history), so that they explain the same data by the same means.
        """
        given = self.baselines
        own = given if isinstance(given, dict) else {name: {} for name in given}
        baselines = {}
        for name, parameters in own.items():
            fields = parameters_class(name).model_fields
            shared = {key: value for key, value in self.parameters.items() if key in fields}
            baselines[name] = {**shared, **parameters}
        return {self.model: self.parameters, **baselines}


class Study(Frozen):
    """A whole configuration file."""

    study: str = Field(description="Name of the study, shown in the report.", pattern=NAME)
    title: str = Field("", description="One line for the head of the report.")
    datasets: dict[str, Dataset]
    runs: dict[str, Run] = Field(
        default_factory=dict, description="None: recordings are ingested and checked only."
    )
    quality: dict[str, Any] = Field(
        default_factory=dict, description="Levels of the quality checks that differ from ours."
    )

    @field_validator("datasets", "runs")
    @classmethod
    def _plain_names(cls, blocks: dict[str, Any]) -> dict[str, Any]:
        for name in blocks:
            if not name.replace("_", "a").isalnum() or not name.isascii():
                raise ValueError(f"{name!r} names files: use letters, digits and _ only")
            if name == "splits":
                raise ValueError("'splits' is the name of a folder of results: choose another")
        return blocks


def build(cls: type[Model], mapping: Mapping[str, Any], where: str) -> Model:
    """Make a block of configuration, or say what is wrong, where, and what was meant.

    Parameters
    ----------
    cls : pydantic model
        The block.
    mapping : mapping
        As read from YAML or JSON.
    where : str
        Place named in the error, such as ``config.yaml: runs.arena``.

    Raises
    ------
    ConfigError
        With every fault in one message.
    """
    try:
        return cls.model_validate(dict(mapping))
    except ValidationError as error:
        faults = [_sentence(fault, cls) for fault in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(faults)) from None


def _sentence(fault: Any, cls: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _fields_at(cls, fault["loc"][:-1])
        return f"unknown key {place!r}" + hint(str(fault["loc"][-1]), known)
    found = "" if fault["type"] == "missing" else f", found {fault['input']!r}"
    return f"{place or 'block'}: {fault['msg']}{found}"


def _fields_at(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the known keys of the block that a fault lies in."""
    here: Any = cls
    for part in path:
        field = getattr(here, "model_fields", {}).get(part)
        if field is None:
            continue  # the name of an entry in a mapping
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if inner:
            here = inner[0]
    return list(here.model_fields)


def parameters_class(name: str) -> type[BaseModel]:
    """Return the class of an estimator's parameters, torch not imported."""
    return resolve(name, PARAMETERS, "model or baseline")


def check_run(name: str, run: Run, study: Study, where: str) -> None:
    """Check what a run refers to: its data set, its estimators and their parameters."""
    if run.dataset not in study.datasets:
        raise ConfigError(
            f"{where}: runs.{name}.dataset: no data set {run.dataset!r}"
            + hint(run.dataset, list(study.datasets))
        )
    for key, names in (("model", [run.model]), ("baselines", list(run.baselines))):
        for estimator in names:
            if estimator not in PARAMETERS:
                raise ConfigError(
                    f"{where}: runs.{name}.{key}: unknown name {estimator!r}"
                    + hint(estimator, PARAMETERS)
                )
    if run.model in run.baselines:
        raise ConfigError(f"{where}: runs.{name}.baselines: {run.model!r} is the run's own model")
    for estimator, parameters in run.estimators().items():
        place = f"{where}: runs.{name}.{'parameters' if estimator == run.model else 'baselines'}"
        build(parameters_class(estimator), parameters, f"{place} of {estimator}")


def json_schema() -> str:
    """Return the JSON schema of a study, as kept in ``workflow/schemas/config.schema.json``."""
    return json.dumps(Study.model_json_schema(), indent=1, sort_keys=True) + "\n"


def check_study(mapping: Mapping[str, Any], where: str = "config") -> Study:
    """Return a whole configuration, checked down to every model's parameters.

    Raises
    ------
    ConfigError
        With the place, the key and the nearest match.
    """
    study = build(Study, mapping, where)
    build(resolve("quality", THRESHOLDS, "config"), study.quality, f"{where}: quality")
    for name, run in study.runs.items():
        check_run(name, run, study, where)
    return study


def read_study(path: Path) -> Study:
    """Read and check a configuration file."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(content).__name__}")
    return check_study(content, path.name)
