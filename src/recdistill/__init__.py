"""RecDistill: distil, compress and honestly evaluate recommenders."""

__version__ = "0.1.0"
