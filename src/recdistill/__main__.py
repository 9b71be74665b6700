"""``python -m recdistill``."""

from __future__ import annotations

import sys

from recdistill.cli import main

if __name__ == "__main__":
    sys.exit(main())
