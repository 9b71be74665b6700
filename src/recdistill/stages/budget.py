"""How strong each pass of a line is, so that the model is within a budget and as good as it can be there."""

from __future__ import annotations

import logging
import math
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.compression.base import CompressionPass
from recdistill.compression.search import Choice, mildest
from recdistill.compression.sizes import bytes_of, in_words
from recdistill.config.suggest import listing
from recdistill.errors import InputError
from recdistill.evaluation.metrics import direction
from recdistill.export.bundle import WEIGHTS, load_frozen
from recdistill.runs.atomic import read_json, write_json
from recdistill.stages.compress import compress
from recdistill.stages.evaluate import costs
from recdistill.stages.nodes import target_of
from recdistill.stages.tune import best_of

if TYPE_CHECKING:
    from recdistill.stages.line import Line

log = logging.getLogger(__name__)
FOUND = "budget.json"
CALLS = 60  # of which the latency is the 99th percentile

Nodes = dict[str, dict[str, Any]]


def limits(cfg: dict[str, Any]) -> dict[str, float]:
    """What the budget of a config limits; nothing where there is none."""
    given = dict(cfg.get("budget") or {})
    found: dict[str, float] = {}
    if given.get("bytes") is not None:
        found["bytes"] = bytes_of(given["bytes"], "budget.bytes")
    if given.get("p99_ms") is not None:
        found["p99_ms"] = float(given["p99_ms"])
    return found


def require_budget(cfg: dict[str, Any]) -> None:
    """Raises InputError for a budget that no pass can do anything about."""
    if not limits(cfg):
        return
    nodes: Nodes = dict(cfg.get("compression") or {})
    if all(len(count) == 1 for count in ladders(nodes).values()):
        raise InputError(
            "there is a budget and no pass whose strength could be chosen", where="budget",
            why=f"the passes are {listing(nodes)}" if nodes else "no compression is chosen",
            fix="compression=[prune_structured,quantize]",
        )  # fmt: skip


def ladders(nodes: Nodes) -> dict[str, list[dict[str, Any]]]:
    """The strengths of each pass."""
    return {name: target_of(node, f"compression.{name}").strengths(node) for name, node in nodes.items()}


def passes(line: Line) -> Nodes:
    """The passes of a line, as strong as the budget asks for, or as they are given.

    Raises:
        InputError: the strongest do not meet it.
    """
    nodes: Nodes = dict(line.cfg.get("compression") or {})
    wanted = limits(line.cfg)
    if not wanted or not nodes or line.max_steps:  # to try a config out
        return nodes
    depends_on = {
        "passes": nodes, "source": line.student.name, "budget": wanted, "trials": line.cfg["budget"]["trials"],
        "node": line.cfg["student"], "seed": line.cfg["seed"], "metric": line.cfg["evaluation"]["metric"],
        **line.soft_key, **line.withheld,
    }  # fmt: skip
    folder = line.store.obtain("budget", depends_on, partial(_choose, line, nodes, wanted), "budget")
    found = read_json(folder / FOUND)
    write_json(line.folder / FOUND, found)
    chosen: Nodes = found["chosen"]
    return {name: chosen[name] for name in nodes}


def _choose(line: Line, nodes: Nodes, wanted: dict[str, float], folder: Path) -> None:
    """Writes the chosen strengths, and all that was tried, to ``folder``."""
    steps = ladders(nodes)
    tried: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="recdistill-budget-") as temporary:
        probe = Probe(line, steps, wanted, Path(temporary), tried)
        choices = mildest([len(strengths) for strengths in steps.values()], probe.fits)
    log.info("budget: %d ways to meet it of which no pass could be milder", len(choices))
    if len(choices) > (most := line.cfg["budget"]["trials"]):  # from the one end to the other
        choices = [choices[round(n * (len(choices) - 1) / max(most - 1, 1))] for n in range(most)]
    values = [_value(line, steps, choice, wanted, tried) for choice in choices]
    if all(math.isnan(value) for value in values):
        raise out_of_reach(list(nodes), wanted, tried)
    metric = line.cfg["evaluation"]["metric"]
    chosen = choices[best_of(values, direction(metric))]
    write_json(folder / FOUND, {
        "budget": wanted, "metric": metric, "tried": tried,
        "chosen": {name: steps[name][number] for name, number in zip(steps, chosen, strict=True)},
    })  # fmt: skip
    log.info("budget: %s is the best of %d on the validation part", told(steps, chosen), len(choices))


def _value(
    line: Line, steps: dict[str, list[dict[str, Any]]], choice: Choice, wanted: dict[str, float],
    tried: list[dict[str, Any]],
) -> float:  # fmt: skip
    """What a choice is worth on the validation part, 0 where there is none; not a number for one that is larger than
    the budget after its fine-tuning."""
    at, metric = line.student, line.cfg["evaluation"]["metric"]
    for name, number in zip(steps, choice, strict=True):
        at = line.after_pass(name, steps[name][number], at)
    size, value = (at / WEIGHTS).stat().st_size, 0.0
    if size > wanted.get("bytes", size):
        value = math.nan
    elif len(line.data.valid):
        model = load_frozen(at, line.data.train)
        result = line.task.evaluate(model, line.data, "valid", line.cfg["evaluation"]["ks"], name="budget")
        value = float(result.means()[metric])
    shown = None if math.isnan(value) else value
    tried.append({"strengths": told(steps, choice), "compared": True, "bytes": size, "value": shown})
    log.info("budget: %s: %s, %s %s", told(steps, choice), in_words(size), metric,
             "- (too large after its fine-tuning)" if shown is None else f"{value:.4f}")  # fmt: skip
    return value


def told(steps: dict[str, list[dict[str, Any]]], choice: Choice) -> str:
    """What a choice sets, such as ``quantize.bits=8``."""
    words = []
    for (name, strengths), number in zip(steps.items(), choice, strict=False):
        for key, value in strengths[number].items():
            if any(other[key] != value for other in strengths):
                shares = set(value.values()) if isinstance(value, dict) else {value}
                words.append(f"{name}.{key}={shares.pop() if len(shares) == 1 else value}")
    return " ".join(words)


class Probe:
    """Asks what a choice costs, without its fine-tuning, which changes neither sizes nor times.

    Args:
        line: whose student is compressed.
        steps: strengths of each pass.
        wanted: the budget.
        folder: for models.
        tried: gets what was found.
    """

    def __init__(
        self, line: Line, steps: dict[str, list[dict[str, Any]]], wanted: dict[str, float], folder: Path,
        tried: list[dict[str, Any]],
    ):  # fmt: skip
        self.line, self.steps, self.wanted, self.folder, self.tried = line, steps, wanted, folder, tried
        self.made: dict[Choice, Path | None] = {(): line.student}

    def fits(self, choice: Choice) -> bool:
        """Whether the model is within the budget."""
        at = self.model(choice)
        if at is None:
            return False
        cost: dict[str, float] = {"bytes": (at / WEIGHTS).stat().st_size}
        if cost["bytes"] <= self.wanted.get("bytes", cost["bytes"]) and "p99_ms" in self.wanted:
            latency = costs(at, self.line.data, task=self.line.task, repeats=CALLS)["latency"]["1"]
            cost["p99_ms"] = latency["p99_ms"]
        within = all(cost.get(name, 0.0) <= most for name, most in self.wanted.items())
        self.tried.append({"strengths": told(self.steps, choice), "compared": False, "fits": within, **cost})
        log.info("budget: %s: %s%s", told(self.steps, choice), in_words(int(cost["bytes"])),
                 f", p99 {cost['p99_ms']:.3f} ms" if "p99_ms" in cost else "")  # fmt: skip
        return within

    def model(self, choice: Choice) -> Path | None:
        """Where the model of a choice of the first passes lies; None where a pass can't be so."""
        if choice not in self.made:
            self.made[choice] = None
            source = self.model(choice[:-1])
            name, strengths = list(self.steps.items())[len(choice) - 1]
            if source is not None:
                at = self.folder / "-".join(map(str, choice))
                kind: type[CompressionPass] = target_of(strengths[0], f"compression.{name}")
                try:
                    compress(source, kind.untrained(strengths[choice[-1]]), self.line.data.train, at,
                             self.line.tuning_of(name, at), _never)  # fmt: skip
                    self.made[choice] = at
                except InputError as error:
                    log.info("budget: %s: %s", told(self.steps, choice), error.what)
        return self.made[choice]


def _never(spec: Any) -> None:
    raise AssertionError(f"{spec.title}: a probe is not trained")


def out_of_reach(names: list[str], wanted: dict[str, float], tried: list[dict[str, Any]]) -> InputError:
    """What to say where nothing fits: the best that could be done."""
    asked = " and ".join(in_words(int(most)) if name == "bytes" else f"a p99 of {most:g} ms"
                         for name, most in wanted.items())  # fmt: skip
    least = min(
        tried, key=lambda one: max(one[name] / most for name, most in wanted.items() if name in one), default=None
    )
    why = None
    if least is not None:
        p99 = f" with a p99 of {least['p99_ms']:.3f} ms" if "p99_ms" in least else ""
        why = f"the nearest that was tried has {in_words(int(least['bytes']))}{p99}, with {least['strengths']}"
    return InputError(
        f"no strengths of {listing(names)} bring the student within {asked}", where="budget", why=why,
        fix="a larger budget, one more pass in compression=[...], or a smaller student",
    )  # fmt: skip
