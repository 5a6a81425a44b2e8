"""One model of the storefront: its follower, catalogue, logs, votes and watchdog."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from deployments.storefront.batch_writer import BatchWriter
from deployments.storefront.catalogue import Catalogue, read_catalogue
from deployments.storefront.errors import ModelNotFound
from deployments.storefront.feedback import Feedback
from deployments.storefront.follower import Follower, RenderThread
from deployments.storefront.mirror import Mirror
from deployments.storefront.render_queue import Served
from deployments.storefront.spool import Spool
from deployments.storefront.watchdog import RollbackWatchdog
from tasks.core.config.model import ModelConfig
from tasks.core.errors import ObjectMissing
from tasks.core.installation import Installation
from tasks.core.registry.models import configuration
from tasks.core.registry.withdrawals import withdrawals
from tasks.core.reporting.metrics import metrics_key
from tasks.core.store.documents import digest
from tasks.core.traffic.feedback import Vote, write_votes
from tasks.core.traffic.prompt_log import PromptLine, write_lines

log = logging.getLogger("dyeworks.storefront")
LOOK_SECONDS = 10.0  # between reads of the ledger, the withdrawals and the drift metrics while the champion stays


class Repeats:
    """Logs an error that comes again at every poll once."""

    def __init__(self) -> None:
        self.last: dict[str, str] = {}  # by what failed

    def log(self, what: str, text: str) -> None:
        """Log an error, unless it is what failed there last."""
        if self.last.get(what) != text:
            log.error("%s", text)
        self.last[what] = text


class ServedModel:
    """The state of one model; `poll` runs in a thread that may wait for the store, everything else never does."""

    def __init__(self, installation: Installation, config: ModelConfig, mirror: Mirror, engine: RenderThread) -> None:
        self.store, self.config, self.name = installation.store, config, config.name
        self.watchdog = RollbackWatchdog(installation, config)
        self.follower = Follower(self.store, config, mirror, engine, self.watchdog.report)
        self.catalogue = Catalogue()
        self.drift_metrics = b""  # of the newest check
        self.repeats = Repeats()
        self.gone: frozenset[str] = frozenset()  # releases that were withdrawn
        self.store_problem = ""  # why the champion cannot be followed; empty when it can
        self.looked = float("-inf")
        spools, seconds = spool_folder(installation, config.name), installation.settings.log_seconds
        write_prompts, write_feedback = (partial(f, self.store, config.name) for f in (write_lines, write_votes))
        self.prompts = BatchWriter("prompt log", PromptLine, write_prompts, Spool(spools / "prompts"), seconds)
        self.votes = BatchWriter("feedback", Vote, write_feedback, Spool(spools / "feedback"), seconds)
        remembered = config.preset.rollback.remembered
        self.feedback = Feedback(config.name, remembered, self.votes.add, self.watchdog.add)

    def start(self) -> None:
        """Start the logs and the watchdog."""
        for part in (self.prompts, self.votes, self.watchdog):
            part.start()

    def stop(self) -> None:
        """Stop all threads; spooled lines are written."""
        for part in (self.prompts, self.votes, self.watchdog):
            part.stop()

    @property
    def not_ready(self) -> str:
        """Why nothing can be rendered; empty when a release, or the bare base, is served."""
        if self.follower.serving:
            return ""
        return self._public(self.follower.problem) or self.store_problem or "the champion has not been read yet"

    @property
    def problem(self) -> str:
        """What is wrong although it renders; empty when nothing is."""
        problems = self._public(self.follower.problem), self.watchdog.problem, self.store_problem, *self._log_problems()
        return "; ".join(filter(None, problems))

    def _public(self, text: str) -> str:
        """A text without the places of this machine; the log has them."""
        places = {self.store.url: "the store", str(self.follower.mirror.folder): "the cache"}
        for place, name in places.items():
            text = text.replace(place, name).replace(place.removeprefix("file://"), name)
        return text

    def poll(self) -> None:
        """Follow the champion; on any error of the store what is served stays. What fails holds up nothing else."""
        before = self.follower.channel
        problems = [self._tried(self.follower.follow)]
        if self.follower.channel is not before or time.monotonic() - self.looked >= LOOK_SECONDS:
            looks = (self._read_withdrawals, self._read_serving, self._read_catalogue, self._read_metrics)
            problems += [self._tried(look) for look in looks]
            self.looked = time.monotonic()
        self.store_problem = next(filter(None, problems), "")

    def _tried(self, action: Callable[[], None]) -> str:
        """Run an action; returns the problem in words for visitors if it fails."""
        try:
            action()
        except Exception as error:  # thread boundary: any error of a store's client
            what = f"the store of {self.name} cannot be read, {self.follower.served} is served"
            self.repeats.log(action.__name__, f"{what}: {error}")
            return "the store cannot be read, so changes of the champion are not seen; see the log"
        return ""

    def champion(self) -> Served | None:
        """What is served; None before the first release, or the bare base, was loaded."""
        return self.follower.served if self.follower.serving else None

    def find(self, version: str, asked: str) -> Served:
        """What a version of this model stands for; raises ModelNotFound."""
        found = self.catalogue.find(version)
        if found is None:
            newest = max(self.catalogue.releases, default=0)
            raise ModelNotFound(asked, f"the newest generation of {self.name} is {newest or 'none'}")
        return found

    def kind_of(self, served: Served) -> str:
        """A generation as metrics name it: champion, previous, other or base."""
        if not served.release:
            return "base"
        if served.release == self.follower.served.release:
            return "champion"
        channel = self.follower.channel
        return "previous" if channel and served.release == channel.previous else "other"

    def promoted(self, generation: int) -> datetime:
        """When a generation was promoted; the epoch if that is not known."""
        return self.catalogue.times.get(generation, datetime.fromtimestamp(0, UTC))

    def _read_withdrawals(self) -> None:
        """Stop offering what was withdrawn, and delete the copies of it."""
        self.gone = frozenset(withdrawal.release for withdrawal in withdrawals(self.store, self.name))
        self.catalogue = self.catalogue.without(self.gone)
        for release in self.gone:
            self.follower.mirror.drop(self.name, release)

    def _read_serving(self) -> None:
        """Follow a change of who may be served, and how."""
        serving = configuration(self.store, self.name).config.serving
        if serving != self.config.serving:
            self.config = self.config.model_copy(update={"serving": serving})
            self.follower.mirror.keep(self.config)

    def _read_catalogue(self) -> None:
        self.catalogue = read_catalogue(self.store, self.name, self.follower.channel).without(self.gone)

    def _read_metrics(self) -> None:
        """Read the metrics of the newest check; text that is none is left out."""
        try:
            text = self.store.read(metrics_key(self.name))
            list(text_string_to_metric_families(text.decode()))
        except ObjectMissing:
            text = b""
        except ValueError as error:
            log.error("the drift metrics of %s cannot be parsed: %s", self.name, error)
            text = b""
        self.drift_metrics = text

    def _log_problems(self) -> list[str]:
        return [
            f"{writer.spool.in_memory} lines of the {writer.name} are only in memory: the disk cannot be written"
            for writer in (self.prompts, self.votes)
            if writer.spool.in_memory
        ]


def spool_folder(installation: Installation, model: str) -> Path:
    """The folder for the lines of a model of a store, shared by all its storefronts on this machine."""
    return installation.settings.spool_folder / digest(installation.store.url) / model
