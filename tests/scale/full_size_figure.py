"""Draw docs/images/full_size.svg from docs/full_size.tsv: levels asked and reached.

Usage: python tests/scale/full_size_figure.py. Numbers of the table are those that
``full_size.py`` printed on an H200; a new line of it is entered there by hand.
"""

import csv
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

DOCS = Path(__file__).parents[2] / "docs"
REACHED, MISSED, ASKED = "#0072b2", "#d55e00", "#333333"
MOST = 1.35  # of the level asked, shown


def main() -> None:
    """Read the table and write the figure."""
    with (DOCS / "full_size.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    mpl.rcParams |= {"svg.hashsalt": "full_size", "svg.fonttype": "none", "font.size": 8}
    figure, axes = plt.subplots(figsize=(7, 0.23 * len(rows) + 0.9), layout="constrained")
    for y, row in enumerate(rows):
        asked = float(row["asked"])
        # a level is drawn as its share of what was asked, better to the right
        shares = [float(row[n]) / asked for n in ("worst", "best")]
        if row["better"] == "lower":
            shares = [1 / s for s in shares]
        color = REACHED if shares[0] >= 1 else MISSED
        ends = [min(s, MOST) for s in shares]
        axes.plot(ends, [y, y], color=color, lw=2)
        axes.plot(ends, [y, y], ls="", marker=">" if shares[0] > MOST else "o", ms=4, color=color)
        found = " to ".join(dict.fromkeys((row["worst"], row["best"])))
        side = "at most" if row["better"] == "lower" else "at least"
        axes.text(MOST + 0.03, y, f"{found} ({side} {asked:g})", va="center", fontsize=7)
    axes.axvline(1, color=ASKED, lw=0.8)
    axes.set_yticks(range(len(rows)), [f"{r['model']}: {r['level']}" for r in rows])
    axes.set(xlim=(0.7, MOST + 0.02), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("share of the level asked (1: reached; of gaps, asked / reached)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(DOCS / "images" / "full_size.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
