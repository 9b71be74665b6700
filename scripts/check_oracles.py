"""Compares our ranking metrics with two other libraries, ranx and RecTools, on random cases without ties.

    python scripts/check_oracles.py [--cases 20] [--venv FOLDER]

They are installed from PyPI into an environment of their own (a temporary folder, or the one given, which is kept), as
they need versions of pandas and numpy that may not go with ours. Each case is up to 50 users and 300 items with seen
items masked; the libraries get the top 50 of every user with strictly decreasing scores, so that no tie is theirs to
break. Novelty and popularity of the lists are compared too, the seen items being the training part. Prints a Markdown
table of the largest difference in any user's value; a dash where a library has no such metric.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recdistill.data.csr import Csr
from recdistill.evaluation.popularity import list_means, self_information
from recdistill.evaluation.ranking import rank_all

KS = (1, 5, 10, 20, 50)

THEIRS = """
import json, sys
import numpy as np, pandas as pd, ranx, rectools
from importlib.metadata import version
from rectools import Columns
from rectools.metrics import MAP, MRR, NDCG, AvgRecPopularity, HitRate, MeanInvUserFreq, Precision, Recall

cases, ks = json.load(open(sys.argv[1])), json.loads(sys.argv[2])
RANX = {"ndcg": "ndcg", "recall": "recall", "precision": "precision", "hr": "hit_rate", "mrr": "mrr", "map": "map"}
out = []
for case in cases:
    found = {}
    qrels = ranx.Qrels({u: {i: 1 for i in items} for u, items in case["relevant"].items()})
    run = ranx.Run({u: {i: float(len(items) - r) for r, i in enumerate(items)} for u, items in case["lists"].items()})
    for name, theirs in RANX.items():
        for k in ks:
            ranx.evaluate(qrels, run, f"{theirs}@{k}")
            found[f"ranx {name}@{k}"] = {u: float(v) for u, v in run.scores[f"{theirs}@{k}"].items()}
    pairs = lambda table: [(u, i, r) for u, items in table.items() for r, i in enumerate(items, 1)]
    columns = [Columns.User, Columns.Item, Columns.Rank]
    reco = pd.DataFrame(pairs(case["lists"]), columns=columns)
    test, train = (pd.DataFrame(pairs(case[part]), columns=columns)[columns[:2]] for part in ("relevant", "train"))
    for k in ks:
        metrics = {"ndcg": NDCG(k=k, divide_by_achievable=True), "recall": Recall(k=k), "precision": Precision(k=k),
                   "hr": HitRate(k=k), "mrr": MRR(k=k), "map": MAP(k=k)}
        for name, metric in metrics.items():
            values = metric.calc_per_user(reco, test)
            found[f"rectools {name}@{k}"] = {u: float(v) for u, v in values.items()}
        for name, metric in {"novelty": MeanInvUserFreq(k=k), "popularity": AvgRecPopularity(k=k)}.items():
            values = metric.calc_per_user(reco, train)
            found[f"rectools {name}@{k}"] = {u: float(v) for u, v in values.items()}
    out.append(found)
versions = {name: version(name) for name in ("ranx", "rectools", "numpy", "pandas")}
json.dump({"versions": versions, "cases": out}, open(sys.argv[3], "w"))
"""


def make_case(seed: int) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Relevant items and lists by user for the others, and our values by metric and user."""
    rng = np.random.default_rng(seed)
    n_users, n_items = int(rng.integers(2, 51)), int(rng.integers(60, 301))
    scores = torch.from_numpy(np.stack([rng.permutation(n_items) for _ in range(n_users)])).float()

    def pairs(mean: float, at_least: int) -> Csr:
        chosen = rng.random((n_users, n_items)) < mean / n_items
        chosen[:, :at_least] = True
        user, item = (torch.from_numpy(axis) for axis in chosen.nonzero())
        return Csr.from_pairs(user, item, n_users)

    relevant, seen = pairs(5, 1), pairs(10, 0)
    users = torch.arange(n_users)
    result = rank_all(lambda u: scores[u], users=users, relevant=relevant, seen=seen, n_items=n_items, ks=KS)
    counts = torch.bincount(seen.indices, minlength=n_items)
    surprise = self_information(counts, int((seen.counts() > 0).sum()))
    values = result.per_user | {
        f"{name}@{k}": list_means(of_item, result.top[:, :k])
        for name, of_item in (("novelty", surprise), ("popularity", counts))
        for k in KS
    }
    lists = {str(u): [str(i) for i in items if i >= 0] for u, items in enumerate(result.top.tolist())}
    ours = {name: {str(u): v for u, v in enumerate(by_user.tolist())} for name, by_user in values.items()}
    return {"relevant": by_name(relevant), "train": by_name(seen), "lists": lists}, ours


def by_name(sets: Csr) -> dict[str, list[str]]:
    users = range(len(sets.counts()))
    return {str(u): [str(i) for i in sets.rows(torch.tensor([u]))[1].tolist()] for u in users}


def ask(cases: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """What the other libraries say of the cases, from an environment of their own below ``folder``."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", "ranx", "rectools"], check=True)
    script, given, found = (folder / name for name in ("theirs.py", "cases.json", "found.json"))
    script.write_text(THEIRS, encoding="utf-8")
    given.write_text(json.dumps(cases), encoding="utf-8")
    subprocess.run([python, "-W", "ignore", script, given, json.dumps(KS), found], check=True)
    content: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return content


def differences(ours: list[dict[str, dict[str, float]]], theirs: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Largest difference of a user's value, by library and metric family, over all cases and list lengths."""
    worst: dict[tuple[str, str], float] = {}
    for mine, found in zip(ours, theirs["cases"], strict=True):
        for key, values in found.items():
            library, name = key.split(" ")
            if values.keys() != mine[name].keys():
                sys.exit(f"{library} gives {name} for other users than ours")
            gap = max(abs(value - mine[name][user]) for user, value in values.items())
            family = (library, name.partition("@")[0])
            worst[family] = max(worst.get(family, 0.0), gap)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--venv", type=Path, default=None)
    options = parser.parse_args()
    cases, ours = zip(*(make_case(seed) for seed in range(options.cases)), strict=True)
    with tempfile.TemporaryDirectory() as temporary:
        theirs = ask(list(cases), options.venv or Path(temporary))
    worst = differences(list(ours), theirs)
    print(", ".join(f"{name} {version}" for name, version in theirs["versions"].items()))
    print(f"{options.cases} cases, {sum(len(case['lists']) for case in cases)} users, k = {', '.join(map(str, KS))}\n")
    families = dict.fromkeys(family for _, family in worst)
    print("| largest difference of a user | ranx | RecTools |\n|:--|--:|--:|")
    for family in families:
        gaps = (worst.get((library, family)) for library in ("ranx", "rectools"))
        print(f"| {family} | " + " | ".join("–" if gap is None else f"{gap:.1e}" for gap in gaps) + " |")


if __name__ == "__main__":
    main()
