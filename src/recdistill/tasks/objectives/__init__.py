"""Hard losses: what a model learns from the data themselves. A config names them by this package, whichever file
they are in."""

from recdistill.tasks.objectives.base import Objective
from recdistill.tasks.objectives.contrastive import CCL, SampledSoftmax, ccl, sampled_softmax
from recdistill.tasks.objectives.elbo import ELBO
from recdistill.tasks.objectives.graph_contrast import GraphContrast
from recdistill.tasks.objectives.sampled import BCE, BPR, Sampled, bce, bpr, l2_penalty
from recdistill.tasks.objectives.sequence import SequenceCloze, SequenceSoftmax
from recdistill.tasks.objectives.sequence_contrast import SequenceContrast
from recdistill.tasks.objectives.sequence_sampled import SequenceBCE, SequenceGBCE, SequenceSampledSoftmax
from recdistill.tasks.objectives.sequence_smoothed import SequenceSmoothed
from recdistill.tasks.objectives.softmax import Softmax
from recdistill.tasks.objectives.supervised import CrossEntropy, LogLoss, SquaredError

__all__ = [
    "BCE", "BPR", "CCL", "ELBO", "CrossEntropy", "GraphContrast", "LogLoss", "Objective", "Sampled",
    "SampledSoftmax", "SequenceBCE", "SequenceCloze", "SequenceContrast", "SequenceGBCE", "SequenceSampledSoftmax",
    "SequenceSmoothed", "SequenceSoftmax", "Softmax", "SquaredError",
    "bce", "bpr", "ccl", "l2_penalty", "sampled_softmax",
]  # fmt: skip
