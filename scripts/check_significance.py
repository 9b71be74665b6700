"""How often tests call two models different that are not: seeds add noise that a test over users can't see.

    python scripts/check_significance.py > docs/results/DATE-significance.md

Made-up models: a level by user that both share, what a seed adds for all users (its sd is in the table), and what a
seed adds for each user (sd 0.15). Both models are drawn from the same distribution, so 5 % is right.
"""

from __future__ import annotations

import argparse
import datetime

import numpy as np

from recdistill.evaluation.significance import bootstrap_difference, paired_t


def rates(seeds: int, spread: float, users: int, rounds: int, shift: float = 0.0) -> list[float]:
    """Share of rounds with p < .05: paired t over users, two-way bootstrap, and the latter with seeds paired."""
    rng = np.random.default_rng(seeds)
    found = []
    for _ in range(rounds):
        level = rng.beta(0.5, 2, users)
        a, b = (
            level + rng.normal(0, spread, (seeds, 1)) + rng.normal(0, 0.15, (seeds, users)) + more
            for more in (0.0, shift)
        )
        found.append([
            paired_t(a.mean(0), b.mean(0)),
            bootstrap_difference(a, b, n=200).p,
            bootstrap_difference(a, b, same_seeds=True, n=200).p,
        ])  # fmt: skip
    return [float(rate) for rate in (np.array(found) < 0.05).mean(0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--shift", type=float, default=0.02, help="of the second table, where the models do differ")
    options = parser.parse_args()
    print(f"# Error rates of the tests, {datetime.date.today()}\n")
    print(f"`python scripts/check_significance.py --users {options.users} --rounds {options.rounds}`")
    for shift, title in ((0.0, "Two equal models: 5 % is right"), (options.shift, f"A difference of {options.shift}")):
        print(f"\n{title}. Percent of {options.rounds} rounds with p < .05, {options.users} users.\n")
        print("| seeds | sd of a seed | paired t over users | two-way | two-way, same seeds |")
        print("|--:|--:|--:|--:|--:|")
        for seeds in (1, 2, 3, 5, 10):
            for spread in (0.0, 0.005, 0.02):
                cells = rates(seeds, spread, options.users, options.rounds, shift)
                print(f"| {seeds} | {spread} | " + " | ".join(f"{100 * rate:.1f}" for rate in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
