"""Fits the alternating least squares of ``implicit`` 0.7 on exported pairs and writes its scores of the catalogue.

    python3 -m venv PEERS/implicit
    PEERS/implicit/bin/pip install -c constraints.txt implicit
    PEERS/implicit/bin/python scripts/peers/implicit_driver.py GIVEN.npz SPEC.json OUT

Called by ``scripts/benchmark_models.py``, which makes both files. ``SPEC.json`` holds ``seed`` and ``settings``, the
arguments of ``AlternatingLeastSquares``. Written are ``OUT.npy``, float32 ``[n_users, n_items]``, and ``OUT.json``, the
CPU seconds of each sweep and the versions.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix


def main() -> None:
    given_file, spec_file, out = (Path(argument) for argument in sys.argv[1:])
    given, spec = dict(np.load(given_file)), json.loads(spec_file.read_text())
    shape = (int(given["n_users"]), int(given["n_items"]))
    ones = np.ones(len(given["user"]), dtype=np.float32)
    seen = csr_matrix((ones, (given["user"], given["item"])), shape=shape)
    model = AlternatingLeastSquares(random_state=spec["seed"], num_threads=1, **spec["settings"])
    start = time.process_time()
    model.fit(seen, show_progress=False)
    seconds = (time.process_time() - start) / model.iterations
    np.save(out.with_suffix(".npy"), (model.user_factors @ model.item_factors.T).astype(np.float32))
    versions = {name: version(name) for name in ("implicit", "scipy", "numpy")}
    size = model.user_factors.size + model.item_factors.size
    found = {"seconds": [seconds] * model.iterations, "versions": versions, "parameters": size}
    out.with_suffix(".json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
