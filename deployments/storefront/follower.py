"""Selects the served release: that of the champion channel, unless it fails to render."""

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
    """The served release; the empty release of generation 0 is the bare base."""

    release: str = ""
    generation: int = 0

    def __str__(self) -> str:
        return f"generation {self.generation}" if self.generation else "the bare base"


class Follower:
    """Switches the renderer; a generation that fails is reported, and rejected until the channel changes."""

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
        self.serving = False  # whether a release (or the bare base) has been loaded and has rendered
        self.channel: Channel | None = None
        self.rejected: Unhealthy | None = None
        self.failed_prompts: set[str] = set()  # prompts of consecutive renders that failed or were blank
        self.fault = ""  # what is wrong with the served release; empty when nothing is
        self.pending = ""  # why the channel's generation could not be loaded yet; empty when it was

    @property
    def problem(self) -> str:
        """What is wrong; empty when nothing is."""
        rejected = ""
        if report := self.rejected:
            rejected = f"generation {report.generation} is rejected, {self._serving_name} is served: {report.reason}"
        return "; ".join(filter(None, (rejected, self.pending, self.fault)))

    @property
    def _serving_name(self) -> str:
        return str(self.served) if self.serving else "nothing"

    def follow(self) -> None:
        """Serve the release of the channel; errors of the store are raised, and the served release stays.

        On a fault of the machine the served release also stays, and the channel's generation is tried again next time.
        """
        channel, _ = read_channel(self.store, self.model.name)
        if channel is None:
            self._require_new()
            self.serving = True
        elif not self.serving or self.channel is None or _target(channel) != _target(self.channel):
            self._try(channel)

    def _require_new(self) -> None:
        """Raise StoreUnusable if nothing is published although something was: this is another or an unmounted store."""
        if self.marker.exists():
            was = f"it names no champion, though generation {self.marker.read_text()} was served from it"
            raise StoreUnusable(self.store.url, f"{was}; if it was emptied on purpose, delete {self.marker}")

    def _try(self, channel: Channel) -> None:
        try:
            self._switch(channel)
        except (torch.OutOfMemoryError, ModelUnusable) as error:
            self.pending = f"generation {channel.generation} is pending, {self._serving_name} is served: {error}"
            log.error("%s", self.pending)
        else:
            self.channel, self.pending = channel, ""

    def _switch(self, channel: Channel) -> None:
        """Serve the release of the channel, or reject it.

        Raises:
            torch.OutOfMemoryError: never treated as a fault of the release.
            ModelUnusable: neither it nor the served release renders.
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
        """Record on this machine that this store had a published release."""
        try:
            self.marker.parent.mkdir(parents=True, exist_ok=True)
            self.marker.write_text(str(generation))
        except OSError as error:
            log.warning("after a restart an empty store cannot be distinguished from a new one: %s", error)

    def record(self, outcomes: Iterable[tuple[str, bool]]) -> None:
        """Record outcomes of renders, each a prompt and whether it was rendered; too many failures reject the release.

        A prompt counts once, so that a visitor cannot force a roll-back by repeating a prompt that fails.
        """
        for prompt, rendered in outcomes:
            if rendered:
                self.failed_prompts.clear()
                self.fault = ""
            else:
                self.failed_prompts.add(prompt)
        if len(self.failed_prompts) >= self.failures:
            self._verify(f"its last {len(self.failed_prompts)} renders failed or were blank")
            self.failed_prompts.clear()

    def _verify(self, reason: str) -> None:
        """Reject the release if a known prompt fails too: a visitor's prompt may legitimately render blank."""
        try:
            self.renderer.try_out(self.model)
        except ModelUnusable as error:
            self._leave(f"{reason}; {error}")
        except torch.OutOfMemoryError as error:
            self.fault = f"{self.served}: {error}"

    def _leave(self, reason: str) -> None:
        """Fall back to the previous release; if that fails too, the machine is at fault and nothing changes."""
        channel = self.channel
        if channel is None or self.served.generation != channel.generation:
            self.fault = f"{self.served}: {reason}"
        elif self._fall_back(channel):
            self._reject(channel, reason)
        else:
            self.fault = f"{self.served}: {reason}, and the previous release does not render either"
            log.error("%s", self.fault)

    def _fall_back(self, channel: Channel) -> bool:
        """Serve the previous release of the channel; returns whether that worked."""
        entries = [e for e in history(self.store, self.model.name) if e.generation < channel.generation]
        generations = [e.generation for e in entries if e.release == channel.previous]
        try:
            self._serve(Served(channel.previous, max(generations, default=0)))
        except (*FAULTS, torch.OutOfMemoryError) as error:
            log.error("the previous release %s does not render either: %s", channel.previous, error)
            return False
        return True

    def _reject(self, channel: Channel, reason: str) -> None:
        rejected = Unhealthy(generation=channel.generation, release=channel.release, kind="health", reason=reason)
        if rejected != self.rejected:  # reported once, although it is retried while nothing renders
            self.rejected = rejected
            log.error("%s", self.problem)
            self.report(rejected)

    def _serve(self, wanted: Served) -> None:
        """Load, test and switch; on an error the served release stays, and the adapter is unloaded."""
        old = active = self.served
        try:
            self._load(wanted.release)
            self.renderer.activate(wanted.release)
            self.renderer.try_out(self.model)
            active = wanted
        finally:
            self.renderer.activate(active.release)
            for name in {old.release, wanted.release} - {active.release, ""}:
                self.renderer.unload(name)
            self.served = active
        self.serving = True

    def _load(self, release: str) -> None:
        if not release:
            return
        with tempfile.TemporaryDirectory() as folder:
            fetch_release(self.store, self.model.name, release, Path(folder))
            self.renderer.load(Path(folder), release)


def _target(channel: Channel) -> tuple[int, str]:
    return channel.generation, channel.release
