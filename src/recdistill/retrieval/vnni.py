"""The scan of int8 codes in one instruction for 64 products, ``vpdpbusd``, of processors that have AVX-512 VNNI.

No loop makes the compiler choose it, so it is asked for by name. It multiplies unsigned by signed bytes and adds each
four of them up: codes are stored plus 128, and 128 · sum(query) is taken off again. Sixteen rows lie side by side, four
numbers of each, so that one register holds the sums of sixteen rows and none is added up across. Importing this module
imports numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import types
from numba.extending import intrinsic

from recdistill.retrieval.base import Array, Lists, aligned, empty_lists
from recdistill.retrieval.kernels import BLOCK, compiled, keep

LANES, GROUP = 16, 4
OFFSET = 128


def available() -> bool:
    """Whether this processor has the instruction."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni")) and bool(features.get("avx512f"))


def packed(codes: Array) -> Array:
    """int8 ``[n, d]`` as uint8 ``[n / 16, d / 4, 16, 4]``, filled up with codes of zero."""
    n, dim = codes.shape
    blocks, groups = -(-n // LANES), -(-dim // GROUP)
    table = aligned((blocks, groups, LANES, GROUP), np.uint8)
    table[...] = OFFSET
    for first in range(0, blocks, 4096):
        rows = codes[first * LANES : (first + 4096) * LANES]
        full = np.zeros((-(-len(rows) // LANES) * LANES, groups * GROUP), np.int16)
        full[: len(rows), :dim] = rows
        part = (full + OFFSET).astype(np.uint8).reshape(-1, LANES, groups, GROUP)
        table[first : first + len(part)] = part.transpose(0, 2, 1, 3)
    return table


@intrinsic
def _dot16(context: Any, table: Any, query: Any, groups: Any, out: Any) -> Any:  # noqa: ARG001
    """Adds up sixteen rows: addresses of uint8 ``[groups, 16, 4]``, int8 ``[groups, 4]`` and int32 ``[16]``."""
    byte_sums, word = ir.VectorType(ir.IntType(32), LANES), ir.IntType(32)

    def generate(target: Any, build: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        at_table, at_query, count, at_out = arguments
        rows = build.inttoptr(at_table, byte_sums.as_pointer())
        asked = build.inttoptr(at_query, word.as_pointer())
        name = "llvm.x86.avx512.vpdpbusd.512"
        known = build.module.globals.get(name)
        multiply = known or ir.Function(build.module, ir.FunctionType(byte_sums, [byte_sums] * 3), name)
        before, head = build.block, build.append_basic_block("head")
        body, done = build.append_basic_block("body"), build.append_basic_block("done")
        build.branch(head)
        build.position_at_end(head)
        at, sums = build.phi(count.type), build.phi(byte_sums)
        at.add_incoming(ir.Constant(count.type, 0), before)
        sums.add_incoming(ir.Constant(byte_sums, [0] * LANES), before)
        build.cbranch(build.icmp_signed("<", at, count), body, done)
        build.position_at_end(body)
        row = build.load(build.gep(rows, [at]))
        row.align = LANES * GROUP
        nothing = ir.Constant(byte_sums, ir.Undefined)
        first = build.insert_element(nothing, build.load(build.gep(asked, [at])), ir.Constant(word, 0))
        everywhere = build.shuffle_vector(first, nothing, ir.Constant(byte_sums, [0] * LANES))
        added = build.call(multiply, [sums, row, everywhere])
        at.add_incoming(build.add(at, ir.Constant(count.type, 1)), body)
        sums.add_incoming(added, body)
        build.branch(head)
        build.position_at_end(done)
        build.store(sums, build.inttoptr(at_out, byte_sums.as_pointer())).align = 4
        return target.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), generate


@compiled
def _scan(
    table: Array, n: int, scale: Array, queries: Array, taken_off: Array, best: Array, ids: Array
) -> None:  # fmt: skip
    groups = table.shape[1]
    block_bytes = groups * LANES * GROUP
    sums, scores = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    for start in range(0, n, BLOCK):
        count = min(BLOCK, n - start)
        for query in range(len(queries)):
            for block in range((count + LANES - 1) // LANES):
                _dot16(  # type: ignore[call-arg]
                    table.ctypes.data + (start // LANES + block) * block_bytes,
                    queries.ctypes.data + query * groups * GROUP, groups, sums.ctypes.data + block * LANES * 4,
                )  # fmt: skip
            for row in range(count):
                scores[row] = np.float32(sums[row] - taken_off[query]) * scale[start + row]
            keep(scores, count, start, best[query], ids[query])


def scan_packed(table: Array, n: int, scale: Array, queries: Array, k: int) -> Lists:
    """The best ``k`` of ``n`` rows that :func:`packed` has laid out, by int8 queries ``[B, d]``; see
    :func:`recdistill.retrieval.scans.scan_codes`."""
    asked = np.zeros((len(queries), table.shape[1] * GROUP), np.int8)
    asked[:, : queries.shape[1]] = queries
    found = empty_lists(len(queries), k)
    taken_off = OFFSET * asked.sum(1, dtype=np.int32)
    _scan(table, n, scale, asked, taken_off, found.scores, found.items)
    return found
