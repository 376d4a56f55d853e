"""Levels at which a check warns and fails; a study overrides single ones in its `quality`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Levels = tuple[float, float]


def _levels(warn: float, fail: float, bad: str, units: str, meaning: str) -> Any:
    text = f"{meaning}; [warn, fail], {bad} which it does."
    return Field((warn, fail), description=text, json_schema_extra={"bad": bad, "units": units})


class Thresholds(BaseModel):
    """Levels of all checks, each a pair [warn, fail], and the few numbers that define a check.

    Sources: Allen Institute's unit metrics (Siegle et al. 2021, Nature 592:86); Hill, Mehta &
    Kleinfeld 2011, J Neurosci 31:8699 (refractory violations); Power et al. 2012, NeuroImage
    59:2142 and Parkes et al. 2018, NeuroImage 171:415 (framewise displacement); MRIQC (Esteban et
    al. 2017, PLoS ONE 12:e0184661; tSNR, DVARS); PREP (Bigdely-Shamlo et al. 2015, Front
    Neuroinform 9:16; robust deviation of a channel's amplitude). Where no source gives a level,
    ours marks what is rare in sound recordings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    failing_share: Levels = _levels(
        0.2,
        0.5,
        "above",
        "1",
        "Share of a node's units, channels or signals beyond their fail level",
    )
    # clocks, all nodes
    gap_share: Levels = _levels(0.001, 0.1, "above", "1", "Share of a run's time lost in gaps")
    gap_factor: float = Field(
        3.0, gt=1, description="A step of the clock this many times its median is a gap."
    )
    repeated_times: Levels = _levels(0.0, 0.01, "above", "1", "Share of times equal to the last")
    rate_error: Levels = _levels(
        1e-3, 1e-2, "above", "1", "Relative difference of the clock's rate from the declared rate"
    )
    clock_residual_ms: Levels = _levels(
        5.0, 20.0, "above", "ms", "Largest distance of a sync pulse from the fitted clock"
    )
    missing_share: Levels = _levels(0.05, 0.5, "above", "1", "Share of samples that are NaN")
    # spikes
    unit_rate_hz: Levels = _levels(0.05, 0.002, "below", "Hz", "Mean rate of a unit")
    unit_rate_high_hz: Levels = _levels(100.0, 300.0, "above", "Hz", "Mean rate of a unit")
    refractory_s: float = Field(
        0.0015, gt=0, description="Intervals shorter than this are violations, s."
    )
    isi_violations: Levels = _levels(
        0.01, 0.05, "above", "1", "Share of a unit's intervals shorter than the refractory period"
    )
    rate_drift: Levels = _levels(
        0.6, 0.95, "above", "1", "|last - first| / (last + first) of the rates in the outer thirds"
    )
    presence: Levels = _levels(
        0.9, 0.3, "below", "1", "Share of stretches, 100 or each of 10 s, in which a unit fires"
    )
    # voltages
    flat_share: Levels = _levels(
        0.01, 0.5, "above", "1", "Share of a channel's seconds that are flat"
    )
    flat_uv: float = Field(
        0.01, ge=0, description="A second of a standard deviation below is flat, uV."
    )
    line_ratio: Levels = _levels(
        100.0,
        1e5,
        "above",
        "1",
        "Power at the mains frequency, or a harmonic, over its neighbours",
    )
    power_line_frequency_hz: float = Field(
        50.0,
        gt=0,
        description="Mains frequency where the recording does not say, Hz (60 in America).",
    )
    clipped_share: Levels = _levels(
        1e-4, 1e-2, "above", "1", "Share of samples that stay at the trace's largest or least value"
    )
    amplitude_z: Levels = _levels(
        5.0, 10.0, "above", "1", "Robust z-score of a channel's log amplitude among its kind"
    )
    amplitude_uv: Levels = _levels(
        5e3, 5e4, "above", "uV", "Median over channels of their standard deviation"
    )
    amplitude_low_uv: Levels = _levels(
        0.5, 0.01, "below", "uV", "Median over channels of their standard deviation"
    )
    bad_channel_share: Levels = _levels(
        0.2, 0.5, "above", "1", "Share of channels that the source calls bad"
    )
    # fMRI
    tsnr_median: Levels = _levels(
        20.0, 5.0, "below", "1", "Median over voxels of mean over sd in time"
    )
    tsnr_low: float = Field(10.0, gt=0, description="A voxel below has a low temporal SNR.")
    tsnr_low_share: Levels = _levels(0.3, 0.7, "above", "1", "Share of voxels of low temporal SNR")
    zero_variance_share: Levels = _levels(
        0.05, 0.9, "above", "1", "Share of voxels that never vary"
    )
    nan_voxel_share: Levels = _levels(0.0, 0.1, "above", "1", "Share of voxels with a NaN")
    fd_mean_mm: Levels = _levels(0.25, 0.55, "above", "mm", "Mean framewise displacement")
    fd_mm: float = Field(0.5, gt=0, description="A volume displaced by more has moved, mm.")
    fd_share: Levels = _levels(0.1, 0.3, "above", "1", "Share of volumes that moved")
    dvars_factor: float = Field(
        1.5, gt=1, description="A volume this many times the median DVARS is a spike."
    )
    dvars_share: Levels = _levels(0.05, 0.2, "above", "1", "Share of volumes that are DVARS spikes")
    dummy_jump: Levels = _levels(
        0.02, 0.1, "above", "1", "Global signal of the first volume over the run's median, minus 1"
    )
    # calcium
    roi_snr: Levels = _levels(3.0, 1.0, "below", "1", "Height of a roi's transients over its noise")
    # behaviour, tables
    tracked_share: Levels = _levels(
        0.9, 0.5, "below", "1", "Share of a signal's samples that are finite"
    )
    na_onset_share: Levels = _levels(0.0, 0.2, "above", "1", "Share of events without an onset")
    overlap_share: Levels = _levels(
        0.0, 0.5, "above", "1", "Share of trials that begin within another"
    )
    outside_share: Levels = _levels(
        0.0, 0.2, "above", "1", "Share of events outside of the recorded time"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Thresholds:
        for name, (bad, _) in LEVELS.items():
            warn, fail = getattr(self, name)
            if not (warn <= fail if bad == "above" else warn >= fail):
                order = "first the smaller" if bad == "above" else "first the larger"
                raise ValueError(
                    f"{name}: found [{warn:g}, {fail:g}], expected [warn, fail], {order}"
                )
        return self


# of each pair of levels: the side that is bad, and the units
LEVELS: dict[str, tuple[str, str]] = {
    name: (str(extra["bad"]), str(extra["units"]))
    for name, field in Thresholds.model_fields.items()
    if isinstance(extra := field.json_schema_extra, dict) and "bad" in extra
}
