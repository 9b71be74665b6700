"""Which event is for training, which for validation, which for the test; and whether that lets time leak.

All work on columns, all give the same answer whatever the order of rows: ties are broken by content.
"""

from recdistill.data.splits.base import Assignment, Split, require_clock, require_test
from recdistill.data.splits.cold import ColdItem, ColdUser
from recdistill.data.splits.given import GivenSplit
from recdistill.data.splits.random import KFold, RandomSplit
from recdistill.data.splits.temporal import GlobalTemporal, LeaveOneOut, PerUserTemporal

__all__ = [
    "Assignment",
    "ColdItem",
    "ColdUser",
    "GivenSplit",
    "GlobalTemporal",
    "KFold",
    "LeaveOneOut",
    "PerUserTemporal",
    "RandomSplit",
    "Split",
    "require_clock",
    "require_test",
]
