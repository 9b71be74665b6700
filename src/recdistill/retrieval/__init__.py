"""The best items of a large table: exact scans and approximate indexes. NumPy, and without torch, so that a service can
use it."""
