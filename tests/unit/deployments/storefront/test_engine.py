"""The rendering engine survives errors of requests and libraries; where it cannot, it reports that it has died."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path

import numpy as np
import pytest

from deployments.storefront.engine import Engine
from deployments.storefront.errors import QueueFull, RenderUnavailable
from deployments.storefront.render_queue import WAITING, RenderedPicture, Served
from deployments.storefront.service import StorefrontService
from tasks.core.config.model import ModelConfig
from tasks.core.store import FolderStore
from tests.unit.deployments.storefront.releases import MODEL, draw, home, order


class NoReleases:
    """The bare base for all models."""

    def champion(self, model: str) -> Served | None:
        return Served()

    def folder(self, model: str, release: str) -> Path:
        raise AssertionError(release)

    def pinned(self) -> set[str]:
        return set()

    def checks_safety(self, model: str) -> bool:
        return False

    def record(self, model: str, served: Served, outcomes: list[tuple[str, bool]]) -> None:
        pass

    def record_shortage(self, model: str, served: Served, problem: str) -> None:
        pass


@pytest.fixture
def engine(serve: Callable[..., StorefrontService]) -> Engine:
    return serve(render_batch=2).engine


def submit(engine: Engine, prompt: str) -> "Future[RenderedPicture]":
    side = engine.own_size[0]
    return engine.submit([order(prompt, width=side, height=side)])[0]


def hold(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Block the next render; returns two events: it has started, it may continue."""
    started, proceed = threading.Event(), threading.Event()
    renderer = engine.adapters.renderer
    render = renderer.render

    def slow(*args: object) -> object:
        started.set()
        assert proceed.wait(60)
        return render(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(renderer, "render", slow)
    return started, proceed


def test_cancelled_requests_leave_the_queue(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(engine)
    started, proceed = hold(engine, monkeypatch)
    running = submit(engine, "rings")
    assert started.wait(60)
    waiting = [submit(engine, f"dots {i}") for i in range(WAITING)]
    with pytest.raises(QueueFull, match="512 pictures can wait at once") as refused:
        submit(engine, "one more")
    assert refused.value.retry_after == pytest.approx(WAITING * engine.pace / 2)
    assert not running.cancel(), "it is drawn already"
    assert all(future.cancel() for future in waiting[:-1])
    assert engine.queue.waiting == {MODEL: 1}
    proceed.set()
    assert running.result(60).image.size == waiting[-1].result(60).image.size
    with pytest.raises(CancelledError):
        waiting[0].result(0)
    assert draw(engine).served == Served()


def test_an_error_fails_only_its_batch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("deployments.storefront.engine.image_fault", lambda _: 1 / 0)
        assert draw(engine).served == Served()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_answer", lambda *_: 1 / 0)
        with pytest.raises(RenderUnavailable, match="rendering failed"):
            draw(engine)
    with monkeypatch.context() as patch:
        patch.setattr(engine.adapters.renderer, "render", lambda *_: 1 / 0)
        with pytest.raises(RenderUnavailable, match="rendering failed"):
            draw(engine)
    assert draw(engine).served == Served()


def test_an_action_runs_between_batches_and_its_error_is_the_callers(engine: Engine) -> None:
    assert engine.call(threading.get_ident) == engine.thread.ident
    with pytest.raises(ZeroDivisionError):
        engine.call(lambda: 1 / 0)
    assert draw(engine).served == Served()


def test_dead_engine_rejects_queued_and_later_requests_and_calls_died(
    local: ModelConfig, folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = threading.Event()
    engine = Engine(local.base, home(folder).settings, NoReleases(), died=died.set)
    engine.start()
    assert engine.loaded.wait(120)
    started, proceed = hold(engine, monkeypatch)
    submit(engine, "rings")
    assert started.wait(60)
    waiting = submit(engine, "dots")

    def end() -> None:
        raise SystemExit

    monkeypatch.setattr(engine, "_step", end)
    proceed.set()
    assert died.wait(60)
    for refused in (
        lambda: waiting.result(0),
        lambda: submit(engine, "waves"),
        lambda: engine.call(threading.get_ident),
    ):
        with pytest.raises(RenderUnavailable, match="the rendering engine has stopped"):
            refused()


def test_engine_ends_if_the_base_model_cannot_be_loaded(folder: FolderStore, tmp_path: Path) -> None:
    died = threading.Event()
    engine = Engine(str(tmp_path / "none"), home(folder).settings, NoReleases(), died=died.set)
    engine.start()
    assert died.wait(60)
    assert "has stopped" in engine.not_ready


def test_stopped_engine_does_not_call_died(local: ModelConfig, folder: FolderStore) -> None:
    died = threading.Event()
    engine = Engine(local.base, home(folder).settings, NoReleases(), died=died.set)
    engine.start()
    engine.stop()
    assert (engine.ended, died.is_set()) == (True, False)
    with pytest.raises(RenderUnavailable):
        submit(engine, "rings")


def test_a_seed_gives_the_same_picture_alone_and_in_a_batch(
    serve: Callable[..., StorefrontService], publish: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the rounding of a forward pass of another size."""
    publish()
    engine = serve(render_batch=8).engine
    alone = [np.asarray(draw(engine, f"rings {seed}", seed).image, int) for seed in range(4)]
    side = engine.own_size[0]
    sizes: list[int] = []
    monkeypatch.setattr(engine.metrics, "observe_batch", lambda size, _: sizes.append(size))
    orders = [order(f"rings {seed}", seed, width=side, height=side, steps=2) for seed in range(4)]
    together = [np.asarray(future.result(60).image, int) for future in engine.submit(orders)]
    assert sizes == [4]
    assert max(abs(one - other).max() for one, other in zip(alone, together, strict=True)) <= 1
