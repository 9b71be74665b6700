"""From a config to an object, through the gate."""

from __future__ import annotations

from typing import Any

from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.data.interactions import Schema
from recdistill.errors import InputError, RecDistillError
from recdistill.models.base import RankingModel


def instantiate(node: Any, **supplied: Any) -> Any:
    """Hydra's ``instantiate`` for a config whose ``_target_`` the gate allows.

    Raises:
        InputError: a constructor refuses its arguments.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    import_target(node["_target_"], "_target_", plugin_modules())
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


def build(net: Any, schema: Schema) -> RankingModel:
    """The model that ``net`` describes, for data of this schema."""
    model: RankingModel = instantiate(net, schema=schema)
    return model
