"""The models of a service, and how one takes the place of another while requests are answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial

from recdistill.errors import InputError, RecDistillError
from recdistill.serving.metrics import Metrics
from recdistill.serving.served import Place, Served, Stamp, open_served, stamp_of
from recdistill.serving.settings import Settings

log = logging.getLogger("recdistill.serving")


class Shelf:
    """Models by name. A request keeps the one that it began with.

    Args:
        places: where they come from.
        settings: of the service.
        metrics: is told of batches and of replaced bundles.
    """

    def __init__(self, places: Sequence[Place], settings: Settings, metrics: Metrics):
        self.places, self._settings, self._metrics = list(places), settings, metrics
        self._models: dict[str, Served] = {}
        self._refused: dict[str, Stamp | None] = {}
        self._nudge = asyncio.Event()
        self.ready = False

    @property
    def models(self) -> list[Served]:
        """All that are open, in the order of their places."""
        return [self._models[place.name] for place in self.places if place.name in self._models]

    def get(self, name: str | None) -> Served | None:
        """The model of that name, or the first; None where there is none."""
        return self._models.get(self.places[0].name if name is None else name)

    async def open_all(self) -> None:
        """Opens and warms all models; from then on the shelf is ready.

        Raises:
            RecDistillError: one of them can't be served.
        """
        for place in self.places:
            self._models[place.name] = await self._open(place)
        self.ready = True

    async def watch(self) -> None:
        """Looks for ever whether a bundle was replaced: every so often, and when it is told to."""
        pause = self._settings.reload_seconds or None
        while True:
            told = False
            with contextlib.suppress(TimeoutError):
                told = await asyncio.wait_for(self._nudge.wait(), pause)
            self._nudge.clear()
            if self.ready:
                await self.refresh(again=told)

    def look_now(self) -> None:
        """Has bundles looked at, also one that was refused before."""
        self._nudge.set()

    async def refresh(self, *, again: bool = False) -> list[str]:
        """Opens what was replaced and, where that is sound, swaps it in; otherwise the old one stays.

        Args:
            again: also tries a bundle that was refused.

        Returns:
            Names of what was swapped.
        """
        swapped = []
        for place in self.places:
            found = stamp_of(place.folder)
            refused = found == self._refused.get(place.name, ()) and not again
            if found is None or found == self._models[place.name].stamp or refused:
                continue
            try:
                self._models[place.name] = await self._open(place)
            except (RecDistillError, OSError, MemoryError) as error:
                self._refused[place.name] = found
                self._metrics.reload(place.name, "refused")
                log.error("%s: the new bundle is refused, the old one goes on: %s", place.name, error)
                continue
            self._refused.pop(place.name, None)
            self._metrics.reload(place.name, "swapped")
            log.info("%s: swapped, weights %s", place.name, self._models[place.name].manifest.get("weights_hash"))
            swapped.append(place.name)
        return swapped

    async def _open(self, place: Place) -> Served:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(None, partial(open_served, place, self._settings, self._metrics.batch))
        except InputError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError("the bundle can't be served", where=str(place.folder),
                             why=f"{type(error).__name__}: {error}", fix="export again") from error  # fmt: skip
