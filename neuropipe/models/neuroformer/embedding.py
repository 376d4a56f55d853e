"""From spikes, frames and covariates to tokens: what each is, when and where it came."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

N_POSITIONS = 256  # places of a token in its row that are told apart
START = 0  # row of the unit table that opens each window


class SpikeEmbedding(nn.Module):
    """Units, times and places of spikes; current and past share the table of units.

    Parameters
    ----------
    n_units : int
        Of all sessions.
    width : int
    window_bins, history_bins : int
    """

    def __init__(self, n_units: int, width: int, window_bins: int, history_bins: int) -> None:
        super().__init__()
        self.history_bins = history_bins
        self.unit = nn.Embedding(n_units + 1, width)
        self.bin = nn.Embedding(window_bins, width)
        # lags 1 .. history, then one row for each length that a past can have
        self.lag = nn.Embedding(2 * history_bins + 2, width)
        self.place = nn.Embedding(N_POSITIONS, width)
        self.past_place = nn.Embedding(N_POSITIONS, width)

    def current(self, unit: Tensor, bin: Tensor, place: Tensor) -> Tensor:
        """Return (token, width) of the current window.

        Parameters
        ----------
        unit : (token,)
            Row of the unit table: `START`, or one more than the unit's number.
        bin : (token,)
            Bin of the spike in the window.
        place : (token,)
            Number of tokens before it.
        """
        where = self.place(place.clamp(max=N_POSITIONS - 1))
        return self.unit(unit) + self.bin(bin) + where

    def past(self, unit: Tensor, lag: Tensor, place: Tensor) -> Tensor:
        """Return (token, width) of the past.

        Parameters
        ----------
        unit : (token,)
            As of `current`; each row's first token is `START`.
        lag : (token,)
            Bins before the window, from 1; of the first token history + 1 + the bins of past
            that there are, so that a short past is not taken for silence.
        place : (token,)
            Number of tokens after it.
        """
        where = self.past_place(place.clamp(max=N_POSITIONS - 1))
        return self.unit(unit) + self.lag(lag) + where


class FrameEmbedding(nn.Module):
    """Patches of frames, each with its row, its column and the time since its onset.

    Parameters
    ----------
    width : int
    shape, patch : (int, int)
        Pixels (y, x) of a frame and of a patch; what is left at the right and bottom is cut off.
    n_frames : int
        Frames of a window.
    window_bins : int
    joined : bool
        Whether a patch spans all frames, as in the authors' 3-D convolution, or one.

    Notes
    -----
    In the authors' code positions of patches are computed and dropped, so that a movie is a bag of
    patches there; here they are added, in `faithful` as well.
    """

    def __init__(
        self,
        width: int,
        shape: tuple[int, int],
        patch: tuple[int, int],
        n_frames: int,
        window_bins: int,
        *,
        joined: bool,
    ) -> None:
        super().__init__()
        self.patch, self.window_bins, self.joined = patch, window_bins, joined
        self.grid = (shape[0] // patch[0], shape[1] // patch[1])
        self.pixels = nn.Linear((n_frames if joined else 1) * patch[0] * patch[1], width)
        self.norm = nn.LayerNorm(width)
        self.row = nn.Embedding(self.grid[0], width)
        self.column = nn.Embedding(self.grid[1], width)
        self.lag = nn.Sequential(nn.Linear(1, width), nn.GELU(), nn.Linear(width, width))
        self.nothing = nn.Parameter(torch.zeros(width))

    def forward(
        self, frame: Tensor, lag: Tensor, seen: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return tokens (window, token, width) and which there are (window, token); None: all.

        Parameters
        ----------
        frame : (window, frame, y, x)
            Scaled.
        lag : (window, frame), bins
            Onset from the start of the window.
        seen : (window, frame) bool, or None for all

        Notes
        -----
        The first token stands for no frame at all, and is always there.
        """
        if seen is not None:
            frame = torch.where(seen[..., None, None], frame, 0.0)
        (rows, columns), (py, px) = self.grid, self.patch
        cut = frame[..., : rows * py, : columns * px]
        cut = cut.unflatten(-2, (rows, py)).unflatten(-1, (columns, px))  # (w, f, row, py, col, px)
        if self.joined:
            patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(3)[:, None]
            lag, seen = lag[:, -1:], None if seen is None else seen[:, -1:]
        else:
            patches = cut.permute(0, 1, 2, 4, 3, 5).flatten(4)
        x = functional.relu(self.norm(self.pixels(patches)))  # (w, f, row, col, width)
        device = frame.device
        x = x + self.row(torch.arange(rows, device=device))[:, None]
        x = x + self.column(torch.arange(columns, device=device))
        x = x + self.lag(lag[..., None] / self.window_bins)[:, :, None, None]
        tokens = x.flatten(1, 3)
        tokens = torch.cat([self.nothing.expand(len(tokens), 1, -1), tokens], 1)
        if seen is None:
            return tokens, None
        mask = seen.repeat_interleave(rows * columns, 1)
        return tokens, torch.cat([torch.ones_like(mask[:, :1]), mask], 1)


class CovariateEmbedding(nn.Module):
    """One token a bin of past and present: all covariates of the bin, and when it was.

    Parameters
    ----------
    width, n_covariates : int
    n_bins : int
        Bins of past and present.
    """

    def __init__(self, width: int, n_covariates: int, n_bins: int) -> None:
        super().__init__()
        self.value = nn.Sequential(
            nn.Linear(n_covariates, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width)
        )
        self.bin = nn.Embedding(n_bins, width)
        self.nothing = nn.Parameter(torch.zeros(width))

    def forward(self, value: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (window, token, width) and which there are, as of `FrameEmbedding`.

        Parameters
        ----------
        value : (window, bin, covariate)
            Scaled; anything where it is not seen.
        seen : (window, bin) bool
        """
        x = self.value(value) + self.bin.weight
        first = self.nothing.expand(len(x), 1, -1)
        always = torch.ones_like(seen[:, :1])
        return torch.cat([first, x], 1), torch.cat([always, seen], 1)
