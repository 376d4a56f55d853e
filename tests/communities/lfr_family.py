"""The table of the weighted LFR family: every method on the same graphs, none told the truth.

``python tests/communities/lfr_family.py OUT.tsv 10`` with the number of graphs a setting; a row for
each graph and method is written as it comes, and graphs that are in the file are not drawn again.
``python tests/communities/lfr_family.py OUT.tsv`` prints the means. graph-tool is asked where the
system's python3 has it.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from planted_blocks import FAMILY, family_graph

from neuropipe.communities import agreement, consensus, fit_assortative, fit_sbm, modularity

GRAPH_TOOL = "/usr/bin/python3"
COLUMNS = ("setting", "graph", "planted", "method", "nmi", "ami", "blocks", "nats", "seconds")


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


def of_graph_tool(graph):
    """Yield method, labels, nats and seconds of its fits, and of each level of its nested one.

    ``gt nested`` is the finest level and ``gt flat`` the only one, of the shorter description with
    or without degree correction; ``gt level k`` are the levels above, of which the best by the
    truth is what the authors report.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = dict(ask_graph_tool(Path(folder), [(graph.weights, graph.labels)]))
    for kind in ("nested", "flat"):
        nats = {n: float(found[f"entropy_{kind}_0_{n}"]) for n in ("plain", "corrected")}
        name = min(nats, key=lambda n: nats[n])
        seconds = sum(float(found[f"seconds_{kind}_0_{n}"]) for n in nats)
        levels = found[f"levels_{kind}_0_{name}"]
        yield f"gt {kind}", levels[0], nats[name], seconds
        for number, level in enumerate(levels[1:], 1):
            yield f"gt level {number}", level, nats[name], 0.0


def of_ours(graph):
    """Yield method, labels, nats and seconds: of the block model, of what keeps to itself, of
    modularity, and of their consensus, as the model asks for them."""
    w, found = graph.weights, []
    for name, method in (
        ("block", fit_sbm), ("assortative", fit_assortative), ("modularity", modularity),
    ):  # fmt: skip
        begin = time.process_time()
        fit = method(w, seed=0)
        found.append(fit.labels)
        yield name, fit.labels, fit.description_length, time.process_time() - begin
    yield "consensus", consensus(found, seed=0), np.nan, np.nan


def write(target, n_graphs, settings):
    """Add what is missing to a table, one graph of every setting after the other."""
    done = {(row["setting"], row["graph"]) for row in rows(target)} if target.exists() else set()
    theirs = has_graph_tool()
    with target.open("a", newline="") as file:
        out = csv.writer(file, delimiter="\t", lineterminator="\n")
        if not done:
            out.writerow(COLUMNS)
        for number in range(n_graphs):
            for setting in settings:
                if (setting, str(number)) in done:
                    continue
                graph = family_graph(setting, number)
                found = [*of_ours(graph), *(of_graph_tool(graph) if theirs else ())]
                for method, labels, nats, seconds in found:
                    alike = agreement(labels, graph.labels)
                    out.writerow((
                        setting, number, graph.labels.max() + 1, method, f"{alike['nmi']:.4f}",
                        f"{alike['ami']:.4f}", len(np.unique(labels)), f"{nats:.2f}",
                        f"{seconds:.2f}",
                    ))  # fmt: skip
                file.flush()


def rows(source):
    """Rows of a table that `write` made."""
    with source.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def means(source, what="nmi"):
    """Mean of each method in each setting, {setting: {method: (mean, standard error, graphs)}}."""
    values = {}
    for row in rows(source):
        of_setting = values.setdefault(row["setting"], {})
        of_setting.setdefault(row["method"], {})[row["graph"]] = float(row[what])
        if row["method"].startswith(("gt nested", "gt level")):
            best = of_setting.setdefault("gt best level", {})
            best[row["graph"]] = max(best.get(row["graph"], 0.0), float(row[what]))
    return {
        setting: {
            method: (np.mean(list(v.values())), np.std(list(v.values())) / len(v) ** 0.5, len(v))
            for method, v in of_setting.items() if not method.startswith("gt level")
        }
        for setting, of_setting in values.items()
    }  # fmt: skip


def main(target, n_graphs=None, *settings):
    """Write the table, or print its means."""
    if n_graphs is not None:
        write(Path(target), int(n_graphs), settings or tuple(FAMILY))
        return
    for what in ("nmi", "ami", "blocks", "seconds"):
        for setting, found in means(Path(target), what).items():
            cells = (f"{m} {v:.3f}+-{e:.3f}" for m, (v, e, _) in found.items())
            print(what, setting, max(n for *_, n in found.values()), *cells, sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
