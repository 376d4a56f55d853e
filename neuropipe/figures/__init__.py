"""Figures of a run: a file holds one `plot(results) -> Figure`, whose docstring is the caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neuropipe import registry

FIGURES: dict[str, str] = {
    "state_timeline": "neuropipe.figures.state_timeline:plot",
    "interaction_matrices": "neuropipe.figures.interaction_matrices:plot",
    "onehot_graph": "neuropipe.figures.onehot_graph:plot",
    "history_filters": "neuropipe.figures.history_filters:plot",
    "convergence": "neuropipe.figures.convergence:plot",
    "score_comparison": "neuropipe.figures.score_comparison:plot",
    "state_properties": "neuropipe.figures.state_properties:plot",
    "state_number": "neuropipe.figures.state_number:plot",
    "recording_overview": "neuropipe.figures.recording_overview:plot",
}
# What suits these models only; whatever is not named here suits every model.
MODELS: dict[str, tuple[str, ...]] = {
    "state_timeline": ("hmm_glm",),
    "interaction_matrices": ("hmm_glm",),
    "onehot_graph": ("hmm_glm",),
    "history_filters": ("hmm_glm",),
    "state_properties": ("hmm_glm",),
    "state_number": ("hmm_glm",),
}


def resolve(name: str) -> Callable:
    """Return the `plot(results) -> Figure` of a figure; an unknown name lists the known."""
    return registry.resolve(name, FIGURES, "figure")


def caption(name: str) -> str:
    """Return the first paragraph of a figure's docstring, without importing it."""
    return registry.caption(name, FIGURES, "figure")


def suiting(model: str, asked: Sequence[str] = "all") -> list[str]:
    """Return the figures that a run of a model asks for; of ``all``, those that suit the model.

    A name that is unknown or does not suit the model is refused with a `ConfigError`.
    """
    return registry.suiting(asked, model, FIGURES, MODELS, "figure")
