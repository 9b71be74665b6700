"""Ships conf/ inside the wheel; an editable install reads the one at the top of the repo."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConfInWheel(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable wheel would keep a copy that goes stale with the first edit.
        if version != "editable":
            build_data["force_include"]["conf"] = "recdistill/conf"
