"""From a config to an object, through the gate."""

from __future__ import annotations

from typing import Any

from recdistill.config.gate import leaves
from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.data.interactions import Schema
from recdistill.errors import InputError, RecDistillError
from recdistill.models.base import Model
from recdistill.models.factored import factor


def instantiate(node: Any, **supplied: Any) -> Any:
    """Hydra's ``instantiate`` for a config whose every ``_target_``, nested ones too, the gate allows.

    Args:
        node: plain containers, resolved.
        supplied: further arguments of the object.

    Raises:
        InputError: a target is not allowed, or a constructor refuses its arguments.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    let_through(node)
    try:
        # In two steps, because Hydra would turn a dataclass among the arguments into a config.
        make = hydra_instantiate(node, _partial_=True, _convert_="all")
        return make if node.get("_partial_") else make(**supplied)
    except (TypeError, ValueError) as error:
        raise InputError(str(error), where=node["_target_"]) from error
    except InstantiationException as error:
        if isinstance(error.__cause__, RecDistillError):
            raise error.__cause__ from error
        raise InputError(str(error.__cause__ or error), where=node["_target_"]) from error


def instantiate_at(key: str, node: Any) -> Any:
    """As :func:`instantiate`; what is refused is said of ``key``, where the node is in the config."""
    try:
        return instantiate(node)
    except InputError as error:
        if error.where == (node.get("_target_") if isinstance(node, dict) else "_target_"):
            error.where = key
        raise


def let_through(node: Any) -> None:
    """Look at every target once more where objects are made: a node may come from a file beside some weights.

    Raises:
        InputError: a target is not allowed, or a value is an interpolation, which could still become a
            target.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise InputError("this config names no class", where="_target_")
    for key, value in leaves(node, ""):
        if key.rpartition(".")[2] == "_target_":
            import_target(value, key, plugin_modules())
        elif isinstance(value, str) and "${" in value:
            raise InputError(f"{value!r} is not a plain value", where=key)


def build(net: Any, schema: Schema) -> Model:
    """The model that ``net`` describes, for data of this schema; its layers may have ``ranks``, see
    :mod:`recdistill.models.factored`."""
    own = {key: value for key, value in net.items() if key != "ranks"} if isinstance(net, dict) else net
    model = instantiate(own, schema=schema)
    if not isinstance(model, Model):
        raise InputError(f"{net['_target_']} is not a model", where="_target_")
    if net.get("ranks"):
        factor(model, net["ranks"])
    return model
