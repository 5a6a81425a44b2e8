"""Selects the served release of a model: that of the champion channel, unless it fails to render.

It works in a thread of its own, and lets the engine load and try out releases between two batches.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from deployments.storefront.adapters import AdapterCache
from deployments.storefront.errors import RELEASE_FAULTS
from deployments.storefront.mirror import CacheUnwritable, Mirror
from deployments.storefront.render_queue import Served
from tasks.core.config.model import ModelConfig
from tasks.core.errors import ModelUnusable, StoreUnusable
from tasks.core.events import Unhealthy
from tasks.core.registry.channel import Channel, read_channel
from tasks.core.registry.ledger import history
from tasks.core.store import Store

log = logging.getLogger("dyeworks.storefront")
FAULTS = (*RELEASE_FAULTS, ModelUnusable)
T = TypeVar("T")


class RenderThread(Protocol):
    """The thread that renders."""

    adapters: AdapterCache

    def call(self, action: Callable[[], T]) -> T:
        """Run an action in that thread between two batches, and return its result; its errors are raised here."""


class Follower:
    """Switches what is served; a generation that fails is reported, and rejected until the channel changes."""

    def __init__(
        self,
        store: Store,
        model: ModelConfig,
        mirror: Mirror,
        engine: RenderThread,
        report: Callable[[Unhealthy], None],
    ) -> None:
        self.store, self.model, self.mirror, self.engine = store, model, mirror, engine
        self.failures, self.report = model.preset.rollback.failures, report
        self.served = Served()
        self.serving = False  # whether a release (or the bare base) has been loaded and has rendered
        self.channel: Channel | None = None
        self.rejected: Unhealthy | None = None
        self.failed_prompts: set[str] = set()  # prompts of consecutive renders that failed or were blank
        self.suspicion = ""  # why the served release is to be tried out; empty when nothing is wrong
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
        If nothing is served yet and the store is away, the release that was served last is.
        """
        if self.suspicion:
            suspicion, self.suspicion = self.suspicion, ""
            self._verify(suspicion)
        try:
            channel, _ = read_channel(self.store, self.model.name)
        except Exception:  # any error of a store's client
            self._serve_mirrored()
            raise
        if channel is None:
            try:
                self._require_new()
            except StoreUnusable:
                self._serve_mirrored()
                raise
            self.serving = True
        elif not self.serving or self.channel is None or _target(channel) != _target(self.channel):
            self._try(channel)

    def _require_new(self) -> None:
        """Raise StoreUnusable if nothing is published although something was: this is another or an unmounted store."""
        if last := self.mirror.channel(self.model.name):
            was = f"it names no champion, though generation {last.generation} was served from it"
            raise StoreUnusable(self.store.url, f"{was}; if it was emptied on purpose, delete {self.mirror.folder}")

    def _serve_mirrored(self) -> None:
        """Serve what was served last on this machine, if nothing is."""
        if not self.serving and (last := self.mirror.channel(self.model.name)):
            log.warning("the store is away: generation %d is served as it was last", last.generation)
            self._try(last)

    def _try(self, channel: Channel) -> None:
        try:
            self._switch(channel)
        except (torch.OutOfMemoryError, ModelUnusable, CacheUnwritable) as error:
            self.pending = f"generation {channel.generation} is pending, {self._serving_name} is served: {error}"
            log.error("%s", self.pending)
        else:
            self.channel, self.pending = channel, ""

    def _switch(self, channel: Channel) -> None:
        """Serve the release of the channel, or reject it.

        Raises:
            torch.OutOfMemoryError, CacheUnwritable: never treated as a fault of the release.
            ModelUnusable: neither it nor the served release renders.
        """
        try:
            self._serve(Served(channel.release, channel.generation))
        except FAULTS as error:
            if isinstance(error, ModelUnusable):
                self._try_out(self.served)
            if not self.served.generation:
                self._fall_back(channel)
            self._reject(channel, str(error))
        else:
            self.rejected, self.fault = None, ""
            self._keep(channel)
            log.info("generation %d (release %s) is served", channel.generation, channel.release or "base")

    def _keep(self, channel: Channel) -> None:
        """Record on this machine what is served, for a restart without the store."""
        try:
            self.mirror.keep_channel(self.model.name, channel)
        except OSError as error:
            log.warning("a restart without the store would serve nothing: %s", error)

    def record(self, outcomes: Iterable[tuple[str, bool]]) -> None:
        """Record outcomes of renders, each a prompt and whether it was rendered.

        If too many failed, the next `follow` tries out the release. A prompt counts once, so that a visitor cannot
        force a roll-back by repeating a prompt that fails.
        """
        for prompt, rendered in outcomes:
            if rendered:
                self.failed_prompts.clear()
                self.fault = ""
            else:
                self.failed_prompts.add(prompt)
        if len(self.failed_prompts) >= self.failures:
            self.suspicion = f"its last {len(self.failed_prompts)} renders failed or were blank"
            self.failed_prompts.clear()

    def _verify(self, reason: str) -> None:
        """Reject the release if a known prompt fails too: a visitor's prompt may legitimately render blank."""
        try:
            self._try_out(self.served)
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
        """Serve the previous release of the channel, else what was served last here; returns whether one of them is."""
        entries = [e for e in history(self.store, self.model.name) if e.generation < channel.generation]
        generations = [e.generation for e in entries if e.release == channel.previous]
        older = [Served(channel.previous, max(generations, default=0))]
        if (last := self.mirror.channel(self.model.name)) and last.release != channel.release:
            older.append(Served(last.release, last.generation))
        return any(map(self._is_served, older))

    def _is_served(self, older: Served) -> bool:
        """Serve an older release; returns whether that worked."""
        try:
            self._serve(older)
        except (*FAULTS, CacheUnwritable, torch.OutOfMemoryError) as error:
            log.error("%s (release %s) does not render either: %s", older, older.release or "base", error)
            return False
        return True

    def _reject(self, channel: Channel, reason: str) -> None:
        rejected = Unhealthy(generation=channel.generation, release=channel.release, kind="health", reason=reason)
        if rejected != self.rejected:  # reported once, although it is retried while nothing renders
            self.rejected = rejected
            log.error("%s", self.problem)
            self.report(rejected)

    def _serve(self, wanted: Served) -> None:
        """Fetch, load, try out and switch; on an error the served release stays."""
        self._try_out(wanted)
        self.served, self.serving = wanted, True

    def _try_out(self, wanted: Served) -> None:
        """Fetch a release, and let the engine render a smoke prompt with it."""
        folder = self.mirror.release(self.model.name, wanted.release) if wanted.release else Path()
        self.engine.call(partial(self.engine.adapters.try_out, wanted.release, folder, self.model))


def _target(channel: Channel) -> tuple[int, str]:
    return channel.generation, channel.release
