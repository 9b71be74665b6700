"""The reporting layer is light: importing it brings neither torch nor matplotlib nor jinja2."""

from __future__ import annotations

import subprocess
import sys


def test_importing_brings_nothing_heavy() -> None:
    code = "import sys, recdistill.reporting.write, recdistill.reporting.grid_report\n"
    code += "print(sorted({'torch', 'matplotlib', 'jinja2', 'scipy', 'polars'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
