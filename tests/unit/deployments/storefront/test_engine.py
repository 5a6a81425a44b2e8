"""The rendering engine survives errors of requests and libraries; where it cannot, it reports that it has died."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from deployments.storefront.engine import WAITING, Engine
from deployments.storefront.errors import RenderUnavailable
from tasks.core.config.model import ModelConfig
from tasks.core.events import Unhealthy
from tasks.core.installation import Installation
from tasks.core.store import FolderStore
from tests.adire import adire, installed


def ignore(_: Unhealthy) -> None:
    pass


@pytest.fixture
def local(pipelines: dict[str, Path]) -> ModelConfig:
    return adire(base=str(pipelines["sd15"]), serving={"steps": 1})


def home(store: FolderStore) -> Installation:
    return installed(store, device="cpu", render_batch=2)


@pytest.fixture
def engine(local: ModelConfig, folder: FolderStore) -> Iterator[Engine]:
    engine = Engine(home(folder), local, 3, ignore)
    engine.start()
    assert engine.ready.wait(120)
    yield engine
    engine.stop()


def hold(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Block the next render; returns two events: it has started, it may continue."""
    started, proceed = threading.Event(), threading.Event()
    render = engine.follower.renderer.render

    def slow(*args: object) -> object:
        started.set()
        assert proceed.wait(60)
        return render(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.follower.renderer, "render", slow)
    return started, proceed


def test_cancelled_requests_leave_the_queue(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    started, proceed = hold(engine, monkeypatch)
    running = engine.submit("rings", 1, 1)
    assert started.wait(60)
    waiting = [engine.submit(f"dots {i}", 1, 1) for i in range(WAITING)]
    with pytest.raises(RenderUnavailable, match="too many requests are queued"):
        engine.submit("one more", 1, 1)
    assert not running.cancel(), "it is drawn already"
    assert all(future.cancel() for future in waiting[:-1])
    proceed.set()
    assert running.result(60).image.size == waiting[-1].result(60).image.size
    with pytest.raises(CancelledError):
        waiting[0].result(0)
    assert engine.submit("rings", 1, 1).result(60).generation == 0


def test_an_error_fails_only_its_batch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("deployments.storefront.engine.image_fault", lambda _: 1 / 0)
        assert engine.submit("rings", 1, 1).result(60).generation == 0
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_answer", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.submit("rings", 1, 1).result(60)
    assert engine.submit("rings", 1, 1).result(60).generation == 0


def test_dead_engine_rejects_queued_and_later_requests_and_calls_died(
    local: ModelConfig, folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = threading.Event()
    engine = Engine(home(folder), local, 3, ignore, died.set)
    engine.start()
    assert engine.ready.wait(120)
    started, proceed = hold(engine, monkeypatch)
    engine.submit("rings", 1, 1)
    assert started.wait(60)
    waiting = engine.submit("dots", 1, 1)

    def end() -> None:
        raise SystemExit

    monkeypatch.setattr(engine, "_step", end)
    proceed.set()
    assert died.wait(60)
    for refused in (lambda: waiting.result(0), lambda: engine.submit("waves", 1, 1)):
        with pytest.raises(RenderUnavailable, match="the rendering engine has stopped"):
            refused()


def test_engine_ends_if_the_base_model_cannot_be_loaded(folder: FolderStore, tmp_path: Path) -> None:
    died = threading.Event()
    engine = Engine(home(folder), adire(base=str(tmp_path / "none")), 3, ignore, died.set)
    engine.start()
    assert died.wait(60)
    assert "has stopped" in engine.not_ready


def test_stopped_engine_does_not_call_died(local: ModelConfig, folder: FolderStore) -> None:
    died = threading.Event()
    engine = Engine(home(folder), local, 3, ignore, died.set)
    engine.start()
    engine.stop()
    assert (engine.ended, died.is_set()) == (True, False)
    with pytest.raises(RenderUnavailable):
        engine.submit("rings", 1, 1)
