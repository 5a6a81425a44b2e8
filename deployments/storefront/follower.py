"""Which release is served: that of the champion channel, unless it does not draw."""

import logging
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from tasks.core.config.model import ModelConfig
from tasks.core.errors import (
    DocumentInvalid,
    ModelUnusable,
    ObjectMissing,
    ReleaseCorrupt,
    ReleaseWithdrawn,
    StoreUnusable,
)
from tasks.core.events import Unhealthy
from tasks.core.installation import Installation
from tasks.core.models.rendering import Renderer
from tasks.core.registry.channel import Channel, read_channel
from tasks.core.registry.ledger import history
from tasks.core.registry.releases import fetch_release
from tasks.core.store.documents import digest

log = logging.getLogger("dyeworks.storefront")
FAULTS = (DocumentInvalid, ModelUnusable, ObjectMissing, ReleaseCorrupt, ReleaseWithdrawn)  # of a release, not a store


@dataclass(frozen=True)
class Served:
    """What draws; the empty release of generation 0 is the bare base."""

    release: str = ""
    generation: int = 0

    def __str__(self) -> str:
        return f"generation {self.generation}" if self.generation else "the bare base"


class Follower:
    """Switches the renderer; a generation that does not draw is refused until the channel changes, and told of."""

    def __init__(
        self,
        installation: Installation,
        model: ModelConfig,
        renderer: Renderer,
        failures: int,
        report: Callable[[Unhealthy], None],
    ) -> None:
        self.store, self.model, self.renderer = installation.store, model, renderer
        self.failures, self.report = failures, report
        self.marker = installation.settings.cache / "served" / digest(self.store.url, model.name)
        self.served = Served()
        self.serving = False  # whether what the channel names, or what is served in its place, was ever found and drew
        self.channel: Channel | None = None
        self.rejected: Unhealthy | None = None
        self.failed_prompts: set[str] = set()  # prompts of the renders in a row that failed or showed nothing
        self.fault = ""  # what is wrong with what draws now; empty when nothing is
        self.pending = ""  # why the channel's generation could not be tried yet; empty when it was

    @property
    def problem(self) -> str:
        """What is wrong, in words; empty when nothing is."""
        rejected = ""
        if about := self.rejected:
            rejected = f"generation {about.generation} is refused, {self._serving_name} is served: {about.reason}"
        return "; ".join(filter(None, (refused, self.pending, self.fault)))

    @property
    def _serving_name(self) -> str:
        return str(self.served) if self.serving else "nothing"

    def follow(self) -> None:
        """Serve what the channel points at; raises what the store raises, and what is served stays.

        Where the machine is at fault, what is served stays too, and the channel's generation is tried again next time.
        """
        channel, _ = read_channel(self.store, self.model.name)
        if channel is None:
            self._require_new()
            self.serving = True
        elif not self.serving or self.channel is None or _target(channel) != _target(self.channel):
            self._try(channel)

    def _require_new(self) -> None:
        """Raise StoreUnusable where nothing is published though something was: what was opened is another store."""
        if self.marker.exists():
            was = f"it names no champion, though generation {self.marker.read_text()} was served from it"
            raise StoreUnusable(self.store.url, f"{was}; was it emptied on purpose, then delete {self.marker}")

    def _try(self, channel: Channel) -> None:
        try:
            self._switch(channel)
        except (torch.OutOfMemoryError, ModelUnusable) as error:
            self.pending = f"generation {channel.generation} waits, {self._serving_name} is served: {error}"
            log.error("%s", self.pending)
        else:
            self.channel, self.pending = channel, ""

    def _switch(self, channel: Channel) -> None:
        """Serve what the channel points at or refuse it.

        Raises:
            torch.OutOfMemoryError: which is never the fault of a release.
            ModelUnusable: neither it nor what is served draws.
        """
        try:
            self._serve(Served(channel.release, channel.generation))
        except FAULTS as error:
            if isinstance(error, ModelUnusable):
                self.renderer.try_out(self.model)
            if not self.served.generation:
                self._fall_back(channel)
            self._reject(channel, str(error))
        else:
            self.rejected, self.fault = None, ""
            self._write_marker(channel.generation)
            log.info("generation %d (release %s) is served", channel.generation, channel.release or "base")

    def _write_marker(self, generation: int) -> None:
        """Remember on this machine that something was published in this store."""
        try:
            self.marker.parent.mkdir(parents=True, exist_ok=True)
            self.marker.write_text(str(generation))
        except OSError as error:
            log.warning("an empty store will be taken for a new one after a restart: %s", error)

    def record(self, outcomes: Iterable[tuple[str, bool]]) -> None:
        """Take the outcome of renders, each a prompt and whether it was drawn; too many bad ones leave the release.

        A prompt counts once, so that nobody takes a model back by asking again for what it cannot draw.
        """
        for prompt, drawn in outcomes:
            if drawn:
                self.failed_prompts.clear()
                self.fault = ""
            else:
                self.failed_prompts.add(prompt)
        if len(self.failed_prompts) >= self.failures:
            self._verify(f"its last {len(self.failed_prompts)} renders failed or showed nothing")
            self.failed_prompts.clear()

    def _verify(self, reason: str) -> None:
        """Leave the release if it does not draw a known prompt either: visitors may ask for what shows nothing."""
        try:
            self.renderer.try_out(self.model)
        except ModelUnusable as error:
            self._leave(f"{reason}; {error}")
        except torch.OutOfMemoryError as error:
            self.fault = f"{self.served}: {error}"

    def _leave(self, reason: str) -> None:
        """Go back to the release before; where that does not draw either, the machine is at fault and all stays."""
        channel = self.channel
        if channel is None or self.served.generation != channel.generation:
            self.fault = f"{self.served}: {reason}"
        elif self._fall_back(channel):
            self._reject(channel, reason)
        else:
            self.fault = f"{self.served}: {reason}, and what was served before does not draw either"
            log.error("%s", self.fault)

    def _fall_back(self, channel: Channel) -> bool:
        """Serve what the channel pointed at before; whether that could be done."""
        entries = [e for e in history(self.store, self.model.name) if e.generation < channel.generation]
        generations = [e.generation for e in entries if e.release == channel.previous]
        try:
            self._serve(Served(channel.previous, max(generations, default=0)))
        except (*FAULTS, torch.OutOfMemoryError) as error:
            log.error("release %s, which was served before, does not draw either: %s", channel.previous, error)
            return False
        return True

    def _reject(self, channel: Channel, reason: str) -> None:
        rejected = Unhealthy(generation=channel.generation, release=channel.release, kind="health", reason=reason)
        if rejected != self.rejected:  # else it was told; where nothing at all draws it is tried again and again
            self.rejected = rejected
            log.error("%s", self.problem)
            self.report(rejected)

    def _serve(self, wanted: Served) -> None:
        """Load, try and switch; when that fails what was served stays, and the adapter is forgotten."""
        old = kept = self.served
        try:
            self._load(wanted.release)
            self.renderer.activate(wanted.release)
            self.renderer.try_out(self.model)
            kept = wanted
        finally:
            self.renderer.activate(kept.release)
            for name in {old.release, wanted.release} - {kept.release, ""}:
                self.renderer.unload(name)
            self.served = kept
        self.serving = True

    def _load(self, release: str) -> None:
        if not release:
            return
        with tempfile.TemporaryDirectory() as folder:
            fetch_release(self.store, self.model.name, release, Path(folder))
            self.renderer.load(Path(folder), release)


def _target(channel: Channel) -> tuple[int, str]:
    return channel.generation, channel.release
