"""Whether two runs of a study came to the same: fits bit for bit, scores and tables to the letter.

Usage: python tests/scale/same_results.py results other/results
"""

import json
import sys
from pathlib import Path

KINDS = {"fits": "fit/**/fit.json", "estimates": "transform/*/*.json",
         "scores": "score/**/*.tsv", "tables": "table/**/*.tsv"}  # fmt: skip
TIMES = ("fit_cost",)  # tables that say how long something took


def content(path):
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()


def main():
    one, other = map(Path, sys.argv[1:3])
    failed = False
    for kind, pattern in KINDS.items():
        names = [{p.relative_to(r) for p in r.glob(pattern) if p.stem not in TIMES}
                 for r in (one, other)]  # fmt: skip
        both = sorted(names[0] & names[1])
        apart = [n for n in both if content(one / n) != content(other / n)]
        print(f"{kind}: {len(both) - len(apart)} of {len(both)} the same, "
              f"{len(names[0] ^ names[1])} in one only")  # fmt: skip
        for name in apart:
            print(f"  differs: {name}")
        failed |= bool(apart)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
