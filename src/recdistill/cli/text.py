"""The help texts: static but for the groups, which are read from the config folders."""

from __future__ import annotations

from recdistill.cli.words import ARGUMENTS, VERBS, Words
from recdistill.config.listing import groups
from recdistill.config.locate import find_sources

ABOUT = {
    "run": "the whole line: data, teacher, distillation, compression, evaluation, report",
    "data": "read, filter and split the data, and say what is in it",
    "train": "train the teacher",
    "distill": "train the student with the teacher's help",
    "compress": "make the trained student smaller",
    "evaluate": "rank the full catalogue for every user and compare all models",
    "recommend": "write the best items of each user",
    "report": "a finished run or grid once more: its table and page",
    "compare": "set finished runs side by side: intervals, differences and whether they are more than noise",
    "verify": "recompute a finished run from its data and weights, and say what does not agree",
    "refresh": "update an exported model on new events, and keep the better of old and new",
    "download": "fetch a public data set from where it is published; without a name: list what there is",
    "serve": "answer requests with exported models, over HTTP",
    "ls": "list the config groups, or the options of one",
    "check": "look at a config without running anything",
}

EXAMPLES = {
    "run": [
        "recdistill run",
        "recdistill run student=mf student.net.dim=8 alpha=0.3",
        "recdistill run 'distiller=[soft_label,rrd]'",
        "recdistill run -m 'distiller=[none],[soft_label],[rrd]' seed=1,2,3",
        "recdistill run --cfg job",
    ],
    "data": [
        "recdistill data",
        "recdistill data data/split=leave_one_out",
        "recdistill data run.name=look",
        "recdistill data data.source.n_users=500 data.filters.k_core=3",
        "recdistill data --cfg job",
    ],
    "train": [
        "recdistill train",
        "recdistill train teacher=mf",
        "recdistill train seed=7 run.name=teacher_7",
        "recdistill train -m seed=1,2,3",
        "recdistill train teacher=mf teacher.net.dim=64",
    ],
    "distill": [
        "recdistill distill",
        "recdistill distill distiller=rrd",
        "recdistill distill alpha=0.9 temperature=4",
        "recdistill distill -m alpha=0.1,0.5,0.9",
        "recdistill distill distiller=[topk_kl,hint]",
    ],
    "compress": [
        "recdistill compress compression=prune",
        "recdistill compress 'compression=[low_rank,quantize]'",
        "recdistill compress compression=quantize run.name=small",
        "recdistill compress -m compression=prune,quantize",
        "recdistill compress --cfg job",
    ],
    "evaluate": [
        "recdistill evaluate",
        "recdistill evaluate 'evaluation.ks=[10,100]' evaluation.metric=ndcg@10",
        "recdistill evaluate run.name=numbers",
        "recdistill evaluate -m seed=1,2,3",
        "recdistill evaluate student=mf distiller=none",
    ],
    "recommend": [
        "recdistill recommend",
        "recdistill recommend recommend.k=20",
        "recdistill recommend recommend.histories=histories.parquet recommend.output=top.parquet",
        "recdistill recommend experiment=office/cold data.path=FOLDER recommend.new_items=items.csv",
        "recdistill recommend 'recommend.users=[u00001,u00002]'",
    ],
    "report": [
        "recdistill report",
        "recdistill report outputs/quickstart",
        "recdistill report run.root=outputs",
        "recdistill report run.name=again",
        "recdistill report --cfg job",
    ],
    "compare": [
        "recdistill compare outputs/one outputs/two",
        "recdistill compare outputs/one 'compare.against=student alone'",
        "recdistill compare outputs/grid compare.metric=recall@20",
        "recdistill compare outputs/seed_* outputs/other 'compare.models=[student distilled,ease]'",
        "recdistill compare outputs/one outputs/two compare.output=tables/first",
    ],
    "refresh": [
        "recdistill refresh outputs/one/export events.jsonl",
        "recdistill refresh outputs/one/export events.parquet refresh.epochs=10",
        "recdistill refresh outputs/one/export events.csv refresh.tolerance=0",
        "recdistill refresh outputs/one/export events.jsonl refresh.newest=0.5",
        "recdistill refresh outputs/one/export refresh.rollback=true",
    ],
    "verify": [
        "recdistill verify outputs/one",
        "recdistill verify outputs/one outputs/two",
        "recdistill verify outputs/grid",
        "recdistill verify outputs/one verify.data=/mnt/data/ml-1m",
        "recdistill verify outputs/one cache=/mnt/cache",
    ],
    "download": [
        "recdistill download",
        "recdistill download ml1m",
        "recdistill download gowalla download.root=/mnt/data",
        "recdistill download download.url=https://HOST/x.csv download.sha256=DIGITS",
        "recdistill download download.url=https://HOST/x.zip download.sha256=DIGITS 'download.members=[x/log.csv]'",
    ],
    "serve": [
        "recdistill serve outputs/one",
        "recdistill serve outputs/one/export serve.port=9000",
        "recdistill serve teacher=outputs/big small=outputs/one",
        "recdistill serve outputs/one serve.fallback=popular serve.log=debug",
        "recdistill serve outputs/one serve.host=0.0.0.0 serve.token=MY_TOKEN",
    ],
    "ls": [
        "recdistill ls",
        "recdistill ls distiller",
        "recdistill ls data teacher",
        "recdistill ls compression",
        "recdistill ls data/split",
    ],
    "check": [
        "recdistill check",
        "recdistill check student.net.dim=8",
        "recdistill check -m distiller=none,rrd alpha=0.1,0.9",
        "recdistill check experiment=quickstart",
        "recdistill check teacher=mf compression=[prune,quantize]",
    ],
}

FLAGS = """\
flags:
  -m, --multirun     a grid: every combination of the comma-separated values
  --config-dir DIR   a folder with config groups of your own; a file of the same name as a shipped one wins
  --plugin DIR       a folder with Python modules that a _target_ may name, and their DIR/conf
  --cfg job          print the composed config and stop (--resolve: with interpolations resolved)
  --info defaults    print where each part of the config comes from
  --version, --help

completion of verbs, groups, options and keys in bash: eval "$(recdistill -sc install=bash)"
"""

EXIT_CODES = """\
exit codes: 0 done, 1 a bug (traceback in error.log), 2 wrong input or config, 3 training diverged,
  4 disk, memory or permission missing, 130 Ctrl-C, 143 SIGTERM
"""


def help_text(words: Words) -> str:
    """What ``recdistill --help`` or ``recdistill VERB --help`` prints."""
    if words.verb is None:
        head = "usage: recdistill VERB [key=value ...] [-m] [--config-dir DIR] [--plugin DIR]\n\n"
        head += "Distil, compress and honestly evaluate recommenders.\n\nverbs:\n"
        head += "\n".join(f"  {verb:<10} {ABOUT[verb]}" for verb in VERBS)
        examples = [*EXAMPLES["run"][:3], "recdistill ls distiller", "recdistill check student.net.dim=8"]
    else:
        shapes = {"ls": "[GROUP ...]", "download": "[NAME] [key=value ...]", "report": "[RUN] [key=value ...]"}
        shape = shapes.get(words.verb, "[key=value ...] [-m]")
        if words.verb in ARGUMENTS:
            shape = f"{ARGUMENTS[words.verb][0]} [key=value ...]"
        head = f"usage: recdistill {words.verb} {shape} [--config-dir DIR] [--plugin DIR]\n\n"
        head += ABOUT[words.verb][0].upper() + ABOUT[words.verb][1:] + "."
        examples = EXAMPLES[words.verb]
        if words.verb == "serve":
            head += "\n\n" + _serve_keys()
    shown = "examples:\n" + "\n".join(f"  {example}" for example in examples)
    return "\n\n".join([head, shown, _groups(words), FLAGS + "\n" + EXIT_CODES.rstrip()])


def _serve_keys() -> str:
    from recdistill.serving.settings import PREFIX, Settings

    lines = [f"  {PREFIX}{name}={field.default}\n      {field.description}"
             for name, field in Settings.model_fields.items()]  # fmt: skip
    return "keys, with their defaults:\n" + "\n".join(lines)


def _groups(words: Words) -> str:
    found = groups(find_sources(words.config_dirs, words.plugins).folders)
    lines = [_cut(f"  {group:<12} {', '.join(options)}") for group, options in found.items()]
    return "config groups (recdistill ls says what each option is):\n" + "\n".join(lines)


def _cut(line: str, width: int = 110) -> str:
    return line if len(line) <= width else line[: width - 4].rpartition(",")[0] + ", ..."
