"""Counts and times, in the text format of Prometheus."""

from __future__ import annotations

import os
import resource
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What happened since the start."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, int], int] = defaultdict(int)
        self._times: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._seconds: dict[str, float] = defaultdict(float)
        self._batches: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
        self._reloads: dict[tuple[str, str], int] = defaultdict(int)
        self.gauges: dict[str, tuple[str, Callable[[], Mapping[Labels, float]]]] = {}

    def request(self, path: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests[path, status] += 1
        self._seconds[path] += seconds
        self._times[path][next((at for at, most in enumerate(BUCKETS) if seconds <= most), len(BUCKETS))] += 1

    def batch(self, model: str, n: int, seconds: float) -> None:
        """One batch of ``n`` requests was run."""
        counts = self._batches[model]
        counts[0] += 1
        counts[1] += n
        counts[2] += seconds

    def reload(self, model: str, result: str) -> None:
        """A bundle was replaced: ``swapped`` or ``refused``."""
        self._reloads[model, result] += 1

    def text(self) -> str:
        """All of it."""
        lines: list[str] = []
        requests: dict[Labels, float] = {
            (("path", path), ("status", str(status))): n for (path, status), n in sorted(self._requests.items())
        }
        _family(lines, "recdistill_requests_total", "counter", "Requests that were answered.", requests)
        lines += ["# HELP recdistill_request_seconds From the head of a request to the end of its answer.",
                  "# TYPE recdistill_request_seconds histogram"]  # fmt: skip
        for path, counts in sorted(self._times.items()):
            total = 0
            for most, n in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                total += n
                lines.append(f"recdistill_request_seconds_bucket{_shown((('path', path), ('le', most)))} {total}")
            lines.append(f"recdistill_request_seconds_sum{_shown((('path', path),))} {self._seconds[path]:.6f}")
            lines.append(f"recdistill_request_seconds_count{_shown((('path', path),))} {total}")
        for at, name, said in ((0, "batches_total", "Calls of a model."), (1, "batched_total", "Requests in them."),
                               (2, "model_seconds_total", "Time in them.")):  # fmt: skip
            values: dict[Labels, float] = {(("model", model),): counts[at] for model, counts in self._batches.items()}
            _family(lines, f"recdistill_{name}", "counter", said, values)
        reloads: dict[Labels, float] = {(("model", m), ("result", r)): n for (m, r), n in self._reloads.items()}
        _family(lines, "recdistill_reloads_total", "counter", "Bundles that were replaced.", reloads)
        for name, (said, read) in self.gauges.items():
            _family(lines, name, "gauge", said, read())
        usage = resource.getrusage(resource.RUSAGE_SELF)
        _family(lines, "process_cpu_seconds_total", "counter", "User and system time.",
                {(): usage.ru_utime + usage.ru_stime})  # fmt: skip
        _family(lines, "process_resident_memory_bytes", "gauge", "Resident memory.", {(): resident_bytes()})
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    """Of this process; its peak where the system tells no more."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _family(lines: list[str], name: str, kind: str, said: str, values: Mapping[Labels, float]) -> None:
    if values:
        lines += [f"# HELP {name} {said}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{_shown(labels)} {value:.10g}" for labels, value in values.items()]


def _shown(labels: Sequence[tuple[str, str]]) -> str:
    if not labels:
        return ""
    escaped = (f'{name}="{_escaped(value)}"' for name, value in labels)
    return "{" + ",".join(escaped) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
