"""What is compared: a public implementation and ours, of one size, on the same training part, for as many epochs.

Every model starts as its own code starts it, but for the spread of embeddings, which ours take from the peer. All use
Adam at a constant rate without weight decay, and the weights after the last epoch: nothing is validated.

LightGCN is without a penalty: RecBole's is of a form that ours has not. RecBole's GRU4Rec takes every beginning of a
history for a sample of its own, 512 in a step; ours reads windows, 13 (Beauty: 87) in a step, so that an epoch has as
many steps.
Its GRU has no biases. DeepCTR-Torch's DCN adds a linear term to the paper's model. ``implicit`` minimises the same as
ours where alpha = (1 + a) / a and its penalty is alpha times ours, for the weight a of pairs that were not seen and
nu = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

UNIFORM = {"distribution": "uniform", "alpha": 1.0, "dynamic": False, "candidate_num": 0}


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        name: of model and data.
        group: which part of the script compares it; "als" has no epochs to equal, but sweeps.
        data: overrides that choose the data; ``{data}`` is the folder given to the script.
        peer: name of the driver and its environment.
        theirs: what the driver is told, but for the seed.
        ours: overrides that choose our teacher.
        epochs, batch_size, lr: of both.
        seeds: how many.
        minutes: that the peer takes for one seed on one core, about.
        long: left out unless it is asked for.
    """

    name: str
    group: Literal["ranking", "als", "sequence", "ctr"]
    data: tuple[str, ...]
    peer: str
    theirs: dict[str, Any]
    ours: tuple[str, ...]
    epochs: int
    batch_size: int
    lr: float = 0.001
    seeds: int = 3
    minutes: int = 2
    long: bool = False

    @property
    def slug(self) -> str:
        """A name for files."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.name.lower()).split())

    @property
    def overrides(self) -> list[str]:
        """Of our training."""
        if self.group == "als":
            return [*self.data, *self.ours, f"teacher.net.epochs={self.epochs}"]
        fit = {
            "epochs": self.epochs, "validate_every": self.epochs, "batch_size": self.batch_size, "lr": self.lr,
            "weight_decay": 0.0, "schedule": "constant", "warmup": 0, "patience": 0, "clip": 0.0,
        }  # fmt: skip
        return [*self.data, *self.ours, *(f"teacher.fit.{key}={value}" for key, value in fit.items())]


def recbole(model: str, epochs: int, batch: int, lr: float, negatives: int, **settings: Any) -> dict[str, Any]:
    """``batch`` counts rows as RecBole does: positives, and the negatives of a pointwise loss."""
    sampling = {**UNIFORM, "sample_num": negatives} if negatives else None
    plain = {"epochs": epochs, "train_batch_size": batch, "learning_rate": lr, "train_neg_sample_args": sampling}
    return {"model": model, "sequence": "MAX_ITEM_LIST_LENGTH" in settings, "settings": {**plain, **settings}}


def gru4rec(epochs: int) -> dict[str, Any]:
    """512 beginnings of histories in a step."""
    sizes = {"embedding_size": 64, "hidden_size": 128, "num_layers": 1, "dropout_prob": 0.0}
    return recbole("GRU4Rec", epochs, 512, 0.002, 0, loss_type="CE", MAX_ITEM_LIST_LENGTH=50, **sizes)


ML1M = ("data=ml1m", "data.path={data}/ml-1m")
ML100K = ("data=ml100k", "data.path={data}/ml-100k", "data/split=user_temporal")
BPR = ("teacher=mf", "teacher.net.dim=64", "teacher.net.init_std=0.02", "objective@teacher.objective=bpr")
LIGHTGCN = (
    "teacher=lightgcn", "teacher.net.dim=64", "teacher.net.layers=3", "objective@teacher.objective=bpr",
    "teacher.objective.l2=0",
)  # fmt: skip
NEUMF = (
    "teacher=neumf", "teacher.net.dim=16", "teacher.net.layers=3", "teacher.net.init_std=0.01",
    "objective@teacher.objective=bce", "teacher.objective.negatives=4", "teacher.objective.weight=4",
)  # fmt: skip
NCF_SIZES = {"mf_embedding_size": 16, "mlp_embedding_size": 64, "mlp_hidden_size": [64, 32, 16], "dropout_prob": 0.0}

SEQUENCE = (*ML100K, "task=sequence", "task.max_length=50", "student=gru4rec")
SASREC = (
    "teacher=sasrec", "teacher.net.dim=64", "teacher.net.layers=2", "teacher.net.heads=1", "teacher.net.dropout=0.2",
    "teacher.net.init_std=0.035", "objective@teacher.objective=sequence_softmax",
)  # fmt: skip
GRU4REC = (
    "teacher=gru4rec", "teacher.net.dim=64", "teacher.net.hidden=128", "teacher.net.layers=1",
    "teacher.net.dropout=0", "teacher.net.init_std=0.035", "objective@teacher.objective=sequence_softmax",
)  # fmt: skip
SASREC_SIZES = {"n_factors": 64, "n_blocks": 2, "n_heads": 1, "dropout_rate": 0.2, "loss": "softmax", "lr": 0.001}
BEAUTY = ("data=beauty", "data.path={data}/amazon-beauty-seq", *SEQUENCE[len(ML100K) :])
FRAPPE = ("data=frappe", "data.path={data}/frappe/nfm_libfm", "task=ctr", "student=lr")
WIDTHS = (
    "teacher.net.dim=16", "teacher.net.hidden=[128,128]", "teacher.net.dropout=0", "teacher.net.batch_norm=false",
    "teacher.net.init_std=0.01",
)  # fmt: skip
CTR_SIZES = {"dnn_hidden_units": [128, 128], "init_std": 0.01, "l2_reg_linear": 0, "l2_reg_embedding": 0}

CASES = (
    Case(
        "BPR, ML-1M", "ranking", ML1M, "recbole", recbole("BPR", 20, 2048, 0.001, 1, embedding_size=64), BPR, 20, 2048,
        minutes=2,
    ),
    Case(
        "LightGCN, ML-100K", "ranking", ML100K, "recbole",
        recbole("LightGCN", 50, 2048, 0.001, 1, embedding_size=64, n_layers=3, reg_weight=0.0),
        (*LIGHTGCN, "teacher.net.init_std=0.04"), 50, 2048, minutes=4,
    ),
    Case(
        "NeuMF, ML-1M", "ranking", ML1M, "recbole", recbole("NeuMF", 5, 2048 * 5, 0.001, 4, **NCF_SIZES),
        NEUMF, 5, 2048, minutes=5,
    ),
    Case(
        "LightGCN, ML-1M", "ranking", ML1M, "recbole",
        recbole("LightGCN", 4, 2048, 0.001, 1, embedding_size=64, n_layers=3, reg_weight=0.0),
        (*LIGHTGCN, "teacher.net.init_std=0.02"), 4, 2048, seeds=1, minutes=10,
    ),
    Case(
        "ALS, ML-1M", "als", ML1M, "implicit",
        {"settings": {"factors": 64, "alpha": 11.0, "regularization": 110.0, "iterations": 15, "use_cg": False}},
        ("teacher=ials", "teacher.net.dim=64", "teacher.net.unobserved=0.1", "teacher.net.l2=10", "teacher.net.nu=0"),
        15, 0, minutes=1,
    ),
    Case(
        "SASRec, ML-100K", "sequence", SEQUENCE, "rectools",
        {"epochs": 40, "settings": {**SASREC_SIZES, "session_max_len": 50, "batch_size": 64}}, SASREC, 40, 64,
        seeds=2, minutes=4,
    ),
    Case(
        "GRU4Rec, ML-100K", "sequence", SEQUENCE, "recbole", gru4rec(4), GRU4REC, 4, 13, 0.002, seeds=1, minutes=10,
    ),
    Case(
        "SASRec, Beauty", "sequence", BEAUTY, "rectools",
        {"epochs": 4, "settings": {**SASREC_SIZES, "session_max_len": 50, "batch_size": 256}}, SASREC, 4, 256,
        seeds=1, minutes=30, long=True,
    ),
    Case(
        "GRU4Rec, Beauty", "sequence", BEAUTY, "recbole", gru4rec(4), GRU4REC, 4, 87, 0.002, seeds=1, minutes=15,
        long=True,
    ),
    Case(
        "DeepFM, Frappe", "ctr", FRAPPE, "deepctr",
        {"model": "DeepFM", "dim": 16, "epochs": 10, "batch_size": 1024, "lr": 0.001, "settings": CTR_SIZES},
        ("teacher=deepfm", *WIDTHS), 10, 1024,
    ),
    Case(
        "DCNv2, Frappe", "ctr", FRAPPE, "deepctr",
        {"model": "DCN", "dim": 16, "epochs": 10, "batch_size": 1024, "lr": 0.001,
         "settings": {**CTR_SIZES, "cross_num": 2, "cross_parameterization": "matrix", "l2_reg_cross": 0}},
        ("teacher=dcnv2", "teacher.net.cross_layers=2", *WIDTHS), 10, 1024,
    ),
)  # fmt: skip
