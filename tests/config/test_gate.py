"""S4: what a ``_target_`` may name, by every way one can be smuggled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_conf import write_tree
from recdistill.cli import preflight
from recdistill.config import gate
from recdistill.config.importing import import_target
from recdistill.config.locate import Sources
from recdistill.errors import InputError

EVIL = [
    "torch.load",
    "pandas.read_pickle",
    "numpy.load",
    "torch.hub.load",
    "torch.utils.cpp_extension.load_inline",
    "numpy.savetxt",
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "hydra.utils.instantiate",
    "pytorch_lightning.utilities.migration.migrate_checkpoint",
    "recdistill.runs.atomic.write_json",
    "recdistill.cli.main",
    "recdistill.models._private.thing",
    "recdistill",
    "recdistillx.Evil",
    "torch",
    "",
]


def check(words: list[str], sources: Sources) -> None:
    preflight.check_all(preflight.gate_overrides(words, sources), sources, multirun=False)


@pytest.mark.parametrize("target", EVIL)
def test_name_refused(target: str) -> None:
    with pytest.raises(InputError, match="not allowed in a config") as error:
        gate.check_target(target, "x._target_")
    assert "recdistill." in str(error.value)


@pytest.mark.parametrize("target", [None, 3, ["torch.load"], {"a": 1}])
def test_no_string_refused(target: object) -> None:
    with pytest.raises(InputError):
        gate.check_target(target, "x._target_")


@pytest.mark.parametrize("target", EVIL[:6])
@pytest.mark.parametrize(
    "form",
    [
        "+x._target_={}",
        "student.net._target_={}",
        "++student.net._target_={}",
        "student.net._target_='{}'",
        "+x={{_target_:{}}}",
        "+x=[{{a:{{_target_:{},_partial_:true}}}}]",
        "+hydra.callbacks.x._target_={}",
        "hydra.launcher._target_={}",
        "+hydra.callbacks={{x:{{_target_:{}}}}}",
        "hydra.sweeper={{_target_:{}}}",
        "+hydra.job_logging.handlers.x.class={}",
        "+hydra.job_logging.handlers={{x:{{'()':{}}}}}",
    ],
)
def test_override_refused_before_hydra(target: str, form: str, sources: Sources) -> None:
    with pytest.raises(InputError):
        preflight.gate_overrides([form.format(target)], sources)


def test_override_refused_in_a_sweep(sources: Sources) -> None:
    with pytest.raises(InputError, match=r"torch\.load"):
        preflight.gate_overrides(["student.net._target_=miniparts.Net,torch.load"], sources)


@pytest.mark.parametrize(
    "words",
    [
        ["+evil=torch.load", "student.net._target_=${evil}"],
        ["+evil='${oc.create:{_target_:torch.load}}'"],
        ["+a=torch", "+x._target_='${a}.load'"],
        ["+student.net.inner='${oc.decode:\"{_target_: torch.load}\"}'"],
    ],
)
def test_interpolated_refused(words: list[str], sources: Sources) -> None:
    with pytest.raises(InputError, match="torch"):
        check(words, sources)


@pytest.mark.parametrize(
    "text",
    [
        "x:\n  _target_: numpy.load\n",
        "x:\n  - - a: {_target_: numpy.load, _partial_: true}\n",
        "x: &a {_target_: numpy.load}\ny: *a\n",
        "t: numpy.load\nx: {_target_: '${data.t}'}\n",
        "_target_: miniparts.alias\n",
        "_target_: miniparts.torch.load\n",
        "_target_: recdistill.models.base.nn.functional.relu\n",
        "_target_: miniparts.Net.__init__\n",
    ],
)
def test_file_of_the_user_refused(text: str, sources: Sources, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "mine", {"data/evil.yaml": text})
    mine = Sources(sources.conf, (folder,), sources.plugins)
    with pytest.raises(InputError, match="not allowed"):
        check(["data=evil"], mine)


@pytest.mark.parametrize(
    "text",
    [
        "callbacks: {x: {_target_: os.system}}",
        "callbacks: {x: {_target_: hydra.utils.call}}",
        "callbacks: '${oc.create:{x:{_target_:os.system}}}'",
        "job_logging: {handlers: {x: {class: subprocess.Popen, args: [touch, canary]}}}",
        "job_logging: {handlers: {x: {'()': os.system}}}",
        "job_logging: {handlers: {x: {stream: 'ext://os.environ'}}}",
        "job: {env_set: {PYTHONPATH: /tmp}}",
        "searchpath: ['file:///tmp']",
    ],
)
def test_hydra_node_of_a_user_file_refused(text: str, sources: Sources, tmp_path: Path) -> None:
    files = {"experiment/evil.yaml": f"# @package _global_\nhydra:\n  {text}\n"}
    mine = Sources(sources.conf, (write_tree(tmp_path / "mine", files),), sources.plugins)
    with pytest.raises(InputError):
        check(["experiment=evil"], mine)


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir", "hydra.searchpath", "hydra/searchpath"])
def test_keys_of_our_own(key: str, sources: Sources) -> None:
    with pytest.raises(InputError, match="set by recdistill itself"):
        preflight.gate_overrides([f"{key}=/tmp"], sources)


def test_what_is_allowed(sources: Sources) -> None:
    check([], sources)
    preflight.gate_overrides(["hydra/launcher=basic", "hydra.verbose=true"], sources)
    for target in ("torch.optim.Adam", "torch.optim.lr_scheduler.StepLR"):
        assert callable(import_target(target, "x"))
    assert gate.is_allowed("pytorch_lightning.loggers.CSVLogger")
    assert gate.is_allowed("pytorch_lightning.Trainer")


@pytest.mark.usefixtures("sources")
def test_alias_is_named_with_what_it_is() -> None:
    with pytest.raises(InputError, match=r"miniparts\.alias is really json\.dumps"):
        import_target("miniparts.alias", "x", ("miniparts",))


def test_plugin_only_when_enabled() -> None:
    with pytest.raises(InputError, match="--plugin DIR"):
        gate.check_target("miniparts.Net", "x")


def test_nearest_prefix() -> None:
    with pytest.raises(InputError, match=r"did you mean recdistill\.\?"):
        gate.check_target("recdistil.", "x")
