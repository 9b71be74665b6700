"""What a model costs to serve, measured and not computed."""

from __future__ import annotations

import platform
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

WARM_UP = 5
LONGEST, FEWEST = 30.0, 10
"""Seconds after which no more calls are timed, and how many there must be by then."""


def latency(
    recommend: Callable[[Tensor], object],
    users: Tensor,
    *,
    batch: int = 1,
    repeats: int = 200,
    threads: int = 1,
) -> dict[str, float]:
    """Time of one call, after warm-up, with the number of threads pinned.

    Args:
        recommend: what is timed; gets ``batch`` users a call.
        users: int64 ``[U]``, a pool that calls cycle through, so that no call finds its own users cached.
        batch: users a call.
        repeats: timed calls, at most: after half a minute it is enough, of so slow a model, with ten of them.
        threads: of torch's operators; restored afterwards.

    Returns:
        ``p50_ms``, ``p95_ms``, ``p99_ms`` a call, ``repeats``, ``batch`` and ``threads``.
    """
    pool = users.repeat(-(-batch // len(users)))
    starts = torch.arange(repeats + WARM_UP) * batch % (len(pool) - batch + 1)
    calls = [pool[start : start + batch] for start in starts.tolist()]
    taken: list[int] = []
    begun = time.monotonic()
    with pinned_threads(threads), torch.inference_mode():
        for n, call in enumerate(calls):
            if len(taken) >= FEWEST and time.monotonic() - begun > LONGEST:
                break
            _synchronize(users)
            start = time.perf_counter_ns()
            recommend(call)
            _synchronize(users)
            if n >= WARM_UP:
                taken.append(time.perf_counter_ns() - start)
    p50, p95, p99 = (float(value) / 1e6 for value in np.percentile(taken, [50, 95, 99]))
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "repeats": len(taken),
        "batch": batch,
        "threads": threads,
    }


def work(recommend: Callable[[Tensor], object], users: Tensor) -> dict[str, int]:
    """What one call does, counted and not timed: the same on every machine.

    Args:
        recommend: what is looked at.
        users: int64 ``[batch]``, of the call.

    Returns:
        ``flops``: floating point operations of its matrix products and convolutions, a multiplication and an addition
        being two. ``memory``: bytes of the tensors that it makes, at the moment when most are alive; neither the model
        nor what an operator needs within itself.
    """
    with torch.inference_mode(), _Work() as done:
        recommend(users)
    return {"flops": done.flops, "memory": done.most}


class _Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up operations, and the storages of new tensors, which it takes off as they go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.now = self.most = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, counted = kwargs or {}, flop_registry.get(func._overloadpacket)
        if counted is None:
            with self:  # a product may be hidden in what others are made of
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        given = {storage.data_ptr() for storage in _storages((args, kwargs))}
        found = func(*args, **kwargs)
        if counted is not None:
            entries = [part._nnz() for part in tree_leaves(args) if _is_sparse(part)]
            # Of a sparse matrix only what is in it is multiplied.
            self.flops += 2 * entries[0] * found.shape[-1] if entries else int(counted(*args, **kwargs, out_val=found))
        for storage in _storages(found):
            place, size = storage.data_ptr(), storage.nbytes()
            if size and place not in given | self._storages:  # a view has the storage of what it is a view of
                self._storages.add(place)
                self.now += size
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, place, size)
        return found

    def _gone(self, place: int, size: int) -> None:
        self.now -= size
        self._storages.discard(place)


def _is_sparse(part: Any) -> bool:
    return isinstance(part, Tensor) and part.layout in (torch.sparse_csr, torch.sparse_coo)


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    """Where the numbers of tensors are; a sparse one is made of dense ones."""
    for part in tree_leaves(tree):
        if not isinstance(part, Tensor):
            continue
        dense: tuple[Tensor, ...] = (part,)
        if part.layout is torch.sparse_csr:
            dense = (part.crow_indices(), part.col_indices(), part.values())
        elif part.layout is torch.sparse_coo:
            dense = (part._indices(), part._values())
        yield from (each.untyped_storage() for each in dense)


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Let torch's operators use this many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _synchronize(users: Tensor) -> None:
    if users.is_cuda:
        torch.cuda.synchronize(users.device)


def cpu_name() -> str:
    """The processor's name as the system tells it, such as ``AMD EPYC 7B13``."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    with suppress(OSError, subprocess.SubprocessError):
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return platform.processor() or platform.machine()
