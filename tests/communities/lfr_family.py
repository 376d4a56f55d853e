"""The table of the weighted LFR family: every method on the same graphs, none told the truth.

``python tests/communities/lfr_family.py 10`` with the number of graphs a setting; rows are printed
as they come. graph-tool is asked where the system's python3 has it.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from planted_blocks import FAMILY, family_graph

from neuropipe.communities import agreement, fit_assortative, modularity, select_sbm

GRAPH_TOOL = "/usr/bin/python3"
METHODS = ("assortative", "block", "modularity", "gt nested", "gt best level", "gt flat")


def has_graph_tool():
    """Whether the system's interpreter can import it."""
    asked = subprocess.run([GRAPH_TOOL, "-c", "import graph_tool"], capture_output=True)
    return asked.returncode == 0


def ask_graph_tool(folder, graphs):
    """Costs of given labels and fits of graph-tool, for graphs (weights, labels)."""
    n = max(len(weights) for weights, _ in graphs)
    pad = [n - len(weights) for weights, _ in graphs]
    np.savez(
        folder / "in.npz",
        weights=[np.pad(w, (0, p)) for (w, _), p in zip(graphs, pad, strict=True)],
        labels=[np.pad(z, (0, p)) for (_, z), p in zip(graphs, pad, strict=True)],
        sizes=[len(w) for w, _ in graphs],
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    code = Path(__file__).with_name("graph_tool_fit.py")
    subprocess.run(
        [GRAPH_TOOL, str(code), str(folder / "in.npz"), str(folder / "out.npz")],
        check=True, capture_output=True, env=env,
    )  # fmt: skip
    return np.load(folder / "out.npz", allow_pickle=False)


def of_graph_tool(folder, graph):
    """NMI of its shorter nested fit, finest level and best level by the truth, and of its flat."""
    found = ask_graph_tool(folder, [(graph.weights, graph.labels)])
    out = []
    for kind in ("nested", "flat"):
        name = min(("plain", "corrected"), key=lambda n: float(found[f"entropy_{kind}_0_{n}"]))
        levels = found[f"levels_{kind}_0_{name}"]
        scores = [agreement(level, graph.labels)["nmi"] for level in levels]
        out += [scores[0], max(scores)] if kind == "nested" else [scores[0]]
    return out


def of_ours(graph):
    """NMI of the assortative model, of the block model by description length, of modularity."""
    block, _ = select_sbm(
        graph.weights, families=["exponential"], degree_corrected=(False, True), seed=0
    )
    found = (
        fit_assortative(graph.weights, seed=0), block,
        modularity(graph.weights, n_restarts=1, seed=0),
    )  # fmt: skip
    return [agreement(fit.labels, graph.labels)["nmi"] for fit in found]


def main(n_graphs):
    """Print the mean NMI of each method in each setting, and its standard error."""
    theirs = has_graph_tool()
    print("setting   ", "  ".join(METHODS), flush=True)
    for setting in FAMILY:
        begin, rows = time.process_time(), []
        for number in range(n_graphs):
            graph = family_graph(setting, number)
            with tempfile.TemporaryDirectory() as folder:
                told = of_graph_tool(Path(folder), graph) if theirs else [np.nan] * 3
            rows.append(of_ours(graph) + told)
        mean, sd = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
        cells = (f"{m:.3f}+-{s / n_graphs**0.5:.3f}" for m, s in zip(mean, sd, strict=True))
        seconds = time.process_time() - begin
        print(f"{setting:10s}", "  ".join(cells), f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
