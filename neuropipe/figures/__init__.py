"""Figures of a run: a file holds one `plot(results) -> Figure`, whose docstring is the caption."""

from __future__ import annotations

from collections.abc import Callable

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


def resolve(name: str) -> Callable:
    """Return the `plot(results) -> Figure` of a figure; an unknown name lists the known."""
    return registry.resolve(name, FIGURES, "figure")


def caption(name: str) -> str:
    """Return the first paragraph of a figure's docstring, without importing it."""
    return registry.caption(name, FIGURES, "figure")
