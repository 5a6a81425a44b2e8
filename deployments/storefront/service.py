"""The storefront's service: the models of one base, the engine that renders for them, and the threads around it."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deployments.storefront.door import Door
from deployments.storefront.drawing import Drawings
from deployments.storefront.engine import Engine, Outcomes
from deployments.storefront.errors import PictureUnknown, RenderUnavailable
from deployments.storefront.metrics import GaugeReading, Metrics
from deployments.storefront.mirror import Mirror
from deployments.storefront.render_queue import Served
from deployments.storefront.served_model import Repeats, ServedModel
from tasks.core.config.model import ModelConfig
from tasks.core.installation import Installation
from tasks.core.registry.store_layout import store_identity

log = logging.getLogger("dyeworks.storefront")


class StorefrontService:
    """Renders for the models of one base, logs prompts and votes; `models` are by name, the first is the page's."""

    def __init__(
        self, installation: Installation, configs: Sequence[ModelConfig], door: Door, metrics: Metrics, mirror: Mirror
    ) -> None:
        self.installation, self.settings, self.door, self.metrics = installation, installation.settings, door, metrics
        self.mirror = mirror
        safety = any(config.checks_safety for config in configs)
        self.engine = Engine(configs[0].base, self.settings, self, metrics, self.exit, safety=safety)
        self.models = {config.name: ServedModel(installation, config, mirror, self.engine) for config in configs}
        self.drawings = Drawings(self.settings, self.models, self.engine, mirror, metrics)
        self.repeats = Repeats()
        self.checked = False  # whether the store was found to be of this version of dyeworks
        self.closing, self.wake = threading.Event(), threading.Event()
        self.poller = threading.Thread(target=self._poll, name="poller", daemon=True)
        metrics.read_from(self._readings)

    def start(self) -> None:
        """Start the engine, the poller, and the models' threads."""
        self.engine.start()
        for model in self.models.values():
            model.start()
        self.poller.start()

    def stop(self) -> None:
        """Stop all threads; spooled lines are written."""
        self.closing.set()
        self.wake.set()
        self.engine.stop()
        for model in self.models.values():
            model.stop()
        self.poller.join(timeout=5)

    def exit(self) -> None:
        """End the process, so that a supervisor restarts it; queued requests get a response, logs are written."""
        try:
            time.sleep(1)
            for model in self.models.values():
                model.stop()
            logging.shutdown()
        finally:
            os._exit(1)

    # What the engine asks, in its thread

    def champion(self, model: str) -> Served | None:
        """The release that a model serves; None while there is none."""
        return self.models[model].champion()

    def folder(self, model: str, release: str) -> Path:
        """The local folder of a release that was fetched."""
        return self.mirror.path(model, release)

    def pinned(self) -> set[str]:
        """The releases of the champions."""
        return {model.follower.served.release for model in self.models.values()}

    def record(self, model: str, served: Served, outcomes: Outcomes) -> None:
        """Take note of renders; those of the champion may show that it is at fault."""
        follower = self.models[model].follower
        if served == follower.served:
            follower.record(outcomes)
            if follower.suspicion:
                self.wake.set()

    def checks_safety(self, model: str) -> bool:
        """Whether its pictures pass the safety checker."""
        return self.models[model].config.checks_safety

    def record_shortage(self, model: str, served: Served, problem: str) -> None:
        """Take note of a single picture that did not fit into memory."""
        self.models[model].follower.fault = f"{served}: {problem}"

    # What routes ask

    def model_of(self, picture: str) -> ServedModel:
        """The model that rendered a picture; raises PictureUnknown."""
        for model in self.models.values():
            if model.feedback.knows(picture):
                return model
        raise PictureUnknown(picture)

    def vote(self, model: ServedModel, picture: str, liked: bool) -> None:
        """Record a vote on a picture of a model; raises PictureUnknown and VotesExhausted."""
        model.feedback.vote(picture, liked)
        self.metrics.votes.labels(model.name, str(liked).lower()).inc()

    def status(self) -> dict[str, object]:
        """What each model serves, and what is wrong; raises RenderUnavailable if no model can render."""
        if reason := self.engine.not_ready:
            raise RenderUnavailable(reason)
        if all(model.not_ready for model in self.models.values()):
            raise RenderUnavailable("; ".join(model.not_ready for model in self.models.values()))
        models = {name: _status(model) for name, model in self.models.items()}
        worst = "degraded" if any(each["status"] != "ok" for each in models.values()) else "ok"
        return {"status": worst, "models": models}

    # The thread that waits for the store

    def _poll(self) -> None:
        while not self.closing.is_set():
            self._keep_on(self._check_store)
            self._keep_on(self._read_keys)
            for model in self.models.values():
                if not self.engine.not_ready:
                    self._keep_on(model.poll)
            self.wake.wait(self.settings.poll_seconds if self.engine.loaded.is_set() else 0.05)
            self.wake.clear()

    def _check_store(self) -> None:
        """Require that the store is one of this version; it may have been away when the process started.

        The configurations are kept for a restart without the store, also of models that have no champion yet.
        """
        if not self.checked:
            store_identity(self.installation.store)
            for model in self.models.values():
                self.mirror.keep(model.config)
            self.checked = True

    def _read_keys(self) -> None:
        """Read the API keys; at a start without the store those that were read last."""
        try:
            self.door.keys.refresh(self.installation.store)
        except Exception:  # any error of a store's client
            if self.door.keys.keys is None:
                self.door.keys.refresh(self.mirror.local)
            raise
        self.mirror.keep_keys(self.door.keys)

    def _keep_on(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # thread boundary: retried on any error of a store's client
            self.repeats.log(action.__name__, f"the store cannot be used: {error}")

    def _readings(self) -> list[GaugeReading]:
        models, queued = self.models.items(), self.engine.queue.waiting
        waiting = {name: float(queued[name]) for name, _ in models}
        lags = {name: model.prompts.lag_seconds for name, model in models}
        lines = {name: float(model.prompts.spool.waiting) for name, model in models}
        served = {name: float(model.follower.served.generation) for name, model in models}
        running = {"": float(self.engine.running)}
        return [
            GaugeReading("dyeworks_requests_waiting", "Pictures that wait.", "model", waiting),
            GaugeReading("dyeworks_requests_running", "Pictures of the current batch.", "", running),
            GaugeReading("dyeworks_prompt_log_lag_seconds", "Age of the oldest line not in the store.", "model", lags),
            GaugeReading("dyeworks_prompt_log_lines", "Lines that are not in the store yet.", "model", lines),
            GaugeReading("dyeworks_served_generation", "Generation that is served.", "model", served),
        ]


def _status(model: ServedModel) -> dict[str, object]:
    served = model.follower.served
    reason = model.not_ready or model.problem
    status = "unavailable" if model.not_ready else "degraded" if reason else "ok"
    about = {"release": served.release, "generation": served.generation}
    return {"status": status, **about, **({"reason": reason} if reason else {})}
