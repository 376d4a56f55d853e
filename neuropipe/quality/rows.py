"""Rows of the table of checks: a value, its verdict, and the sentence that gives the reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from neuropipe.quality.thresholds import LEVELS, Thresholds

Row = dict[str, Any]


def is_beyond(value: float, limit: float, bad: str) -> bool:
    """Return whether a value lies on the bad side of a limit; NaN does not."""
    return value > limit if bad == "above" else value < limit


def row(
    node: str, item: str, check: str, value: float, thresholds: Thresholds, meaning: str,
    *, part: bool = False,
) -> Row:  # fmt: skip
    """Return one row, judged by the levels of that name.

    Parameters
    ----------
    node, item : what was measured
    check : name of a pair of levels of `Thresholds`
    value : what was found; NaN where it cannot be measured, which passes and says so
    meaning : what a bad value may mean and what to do, a clause
    part : one of many that can be left out, so that a FAIL counts as a WARN; see `failing`
    """
    bad, units = LEVELS[check]
    warn, fail = getattr(thresholds, check)
    if math.isnan(value):
        return _row(node, item, check, value, units, "PASS", "could not be measured")
    found = f"found {_number(value, units)}"
    if is_beyond(value, fail, bad):
        verdict = "WARN" if part else "FAIL"
        alone = ", a warning for one of many" if part else ""
        level = f"{bad} the fail level {_number(fail, units)}{alone}"
    elif is_beyond(value, warn, bad):
        verdict, level = "WARN", f"{bad} the warn level {_number(warn, units)}"
    else:
        side = "at most" if bad == "above" else "at least"
        verdict, level = "PASS", f"{side} {_number(warn, units)} is expected"
    reason = f"{found}, {level}" + (f": {meaning}" if verdict != "PASS" else "")
    return _row(node, item, check, value, units, verdict, reason)


def rows_of(
    node: str, items: Sequence, check: str, values: np.ndarray, thresholds: Thresholds,
    meaning: str, kind: str,
) -> list[Row]:  # fmt: skip
    """Return a row for each unit, channel or roi, and one for the share of them that fail."""
    out = [
        row(node, str(item), check, float(value), thresholds, meaning, part=True)
        for item, value in zip(items, values, strict=True)
    ]
    measured = values[np.isfinite(values)]
    if not len(measured):
        return out
    bad, units = LEVELS[check]
    _, fail = getattr(thresholds, check)
    n_bad = int(sum(is_beyond(float(v), fail, bad) for v in measured))
    share = row(
        node, "all", "failing_share", n_bad / len(measured), thresholds,
        f"{n_bad} of {len(measured)} {kind}s have a {check} {bad} {_number(fail, units)}; "
        f"{meaning}",
    )  # fmt: skip
    return [*out, {**share, "check": f"{check}_failing"}]


def _row(*values: Any) -> Row:
    from neuropipe.quality import COLUMNS

    return dict(zip(COLUMNS, values, strict=True))


def _number(value: float, units: str) -> str:
    return f"{value:.3g}" if units == "1" else f"{value:.3g} {units}"
