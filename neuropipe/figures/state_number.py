"""Choice of the number of states."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.fits import model_folds
from neuropipe.figures.style import GREY, drawn, new_figure, with_units
from neuropipe.results import RunResults

VARIABLE = "state_number_log_likelihood"


@drawn
def plot(results: RunResults) -> Figure:
    """Log-likelihood of validation bins against the number of states, chosen inside the
    training folds. A grey line for each fold, the mean in black; a blue ring marks the number
    that each fold chose and fitted. The bins that give the scores of this run took no part in
    the choice.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``state_number_log_likelihood (inner_fold, n_states_tried)``.
    """
    curves = {
        fold: parameters[VARIABLE].mean("inner_fold", keep_attrs=True)
        for fold in model_folds(results)
        if VARIABLE in (parameters := results.parameters[results.model, fold])
    }
    if not curves:
        raise DataError(
            "The number of states was set in the configuration of this run, "
            "so there is no choice to draw."
        )
    figure = new_figure(2.6, 4.2)
    axes = figure.subplots()
    for fold, curve in curves.items():
        axes.plot(curve["n_states_tried"], curve, color=GREY, linewidth=0.8, marker=".")
        n_states = results.parameters[results.model, fold].sizes["state"]
        chosen = curve.sel(n_states_tried=n_states)
        axes.plot(
            n_states, chosen, "o", markersize=9, markerfacecolor="none", markeredgecolor="#0072B2"
        )
    mean = xr.concat(curves.values(), "fold", join="outer").mean("fold", skipna=False)
    axes.plot(mean["n_states_tried"], mean, color="black", marker="o", markersize=4, label="mean")
    first = next(iter(curves.values()))
    axes.set_xticks(np.asarray(first["n_states_tried"]))
    units = str(first.attrs.get("units", "nats/bin"))
    axes.set(xlabel="number of states", ylabel=with_units("held-out log-likelihood", units))
    axes.legend()
    return figure
