"""Hard losses of the ranking task: what a model learns from the interactions themselves. A config names them by this
package, whichever file they are in."""

from recdistill.tasks.objectives.base import Objective
from recdistill.tasks.objectives.contrastive import CCL, SampledSoftmax, ccl, sampled_softmax
from recdistill.tasks.objectives.elbo import ELBO
from recdistill.tasks.objectives.graph_contrast import GraphContrast
from recdistill.tasks.objectives.sampled import BCE, BPR, Sampled, bce, bpr, l2_penalty
from recdistill.tasks.objectives.softmax import Softmax

__all__ = [
    "BCE", "BPR", "CCL", "ELBO", "GraphContrast", "Objective", "Sampled", "SampledSoftmax", "Softmax",
    "bce", "bpr", "ccl", "l2_penalty", "sampled_softmax",
]  # fmt: skip
