"""Run by the interpreter that has graph-tool: costs of given partitions, and its own fits.

``python graph_tool_fit.py IN.npz OUT.npz``; IN holds weights (graph, n, n), labels (graph, n).
"""

import sys
import time

import graph_tool.all as gt
import numpy as np


def graph(weights):
    rows, columns = np.nonzero(np.triu(weights, 1))
    g = gt.Graph(directed=False)
    g.add_vertex(len(weights))
    g.add_edge_list(np.column_stack([rows, columns]))
    g.ep.weight = g.new_ep("double", vals=weights[rows, columns])
    return g


def main(source, target):
    given = np.load(source, allow_pickle=False)
    out = {}
    for at, (weights, labels) in enumerate(zip(given["weights"], given["labels"], strict=True)):
        n = int(given["sizes"][at])
        weights, labels = weights[:n, :n], labels[:n]
        g = graph(weights)
        recs = {"recs": [g.ep.weight], "rec_types": ["real-exponential"]}
        for corrected in (False, True):
            name = f"{at}_{'corrected' if corrected else 'plain'}"
            state = gt.BlockState(g, b=labels, deg_corr=corrected, **recs)
            count = {} if corrected else {"dense": True, "multigraph": False}
            out[f"cost_{name}"] = state.entropy(**count)
            out[f"cost_default_{name}"] = state.entropy()
            for kind in ("flat", "nested"):
                gt.seed_rng(13)
                start = time.process_time()
                args = {"deg_corr": corrected, **recs}
                if kind == "flat":
                    fit = gt.minimize_blockmodel_dl(g, state_args=args)
                    levels = [fit.get_blocks().a]
                else:
                    fit = gt.minimize_nested_blockmodel_dl(g, state_args=args)
                    levels = []
                    for depth, level in enumerate(fit.get_levels()):
                        above = fit.get_levels()[depth + 1].get_N()
                        if above in (1, level.get_N()):
                            break
                        levels.append(fit.project_level(depth).get_blocks().a)
                    levels = levels or [np.zeros(n, int)]
                key = f"{kind}_{name}"
                out[f"seconds_{key}"] = time.process_time() - start
                out[f"entropy_{key}"] = fit.entropy()
                out[f"levels_{key}"] = np.array([np.array(x[:n]) for x in levels])
    np.savez(target, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
