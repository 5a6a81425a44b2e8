"""The served release when renders fail: whether the release, the machine or its memory is at fault."""

from collections.abc import Callable
from typing import NoReturn

import pytest
import torch

from deployments.storefront.engine import Engine, Job
from deployments.storefront.follower import Follower, Served
from tasks.core.config.model import ModelConfig
from tasks.core.events import Unhealthy
from tasks.core.models.images import image_fault
from tasks.core.store import FolderStore
from tests.unit.deployments.storefront.releases import adapters, damage, drawn, home


def spoil(follower: Follower) -> None:
    """Set the adapter in memory to NaN, as by a fault of the device."""
    with torch.no_grad():
        for name, parameter in follower.renderer.pipe.unet.named_parameters():
            if "lora" in name:
                parameter.fill_(float("nan"))


def test_consecutive_black_pictures_reject_the_release(
    local: ModelConfig, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    first, second = publish(), publish(0.5)
    engine = Engine(home(folder), local, 3, reports.append)
    engine.start()
    try:
        assert engine.ready.wait(120)
        assert engine.submit("rings", 1, 2).result(60).generation == 2
        spoil(engine.follower)
        for prompt in ("rings", "dots", "dots"):
            picture = engine.submit(prompt, 1, 2).result(60)
            assert image_fault(picture.image)
        assert reports == [], "two prompts, however often"
        assert image_fault(engine.submit("waves", 1, 2).result(60).image)
        after = engine.submit("rings", 1, 2).result(60)
        assert (after.release, after.generation) == (first, 1)
        assert not image_fault(after.image)
    finally:
        engine.stop()
    (report,) = reports
    assert (report.generation, report.release) == (2, second)
    assert "its last 3 renders failed or were blank" in report.reason


def test_a_successful_render_resets_the_failures(follower: Follower, publish: Callable[..., str]) -> None:
    publish()
    follower.follow()
    for prompt in "abcdef":
        follower.record([(prompt, False), (prompt, False)])
        follower.record([("a", True)])
    assert (follower.served.generation, follower.problem) == (1, "")


def test_no_release_is_rejected_when_nothing_renders(
    follower: Follower, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    damage(folder, publish())
    second = publish(0.5)
    follower.follow()
    spoil(follower)
    follower.record((prompt, False) for prompt in "abc")
    assert (follower.served, reports) == (Served(second, 2), [])
    assert "the previous release does not render either" in follower.problem
    follower.record([("a", True)])
    assert follower.problem == ""


def short(*_: object, **__: object) -> NoReturn:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("where", ["add_adapter", "__call__"])
def test_switch_is_retried_after_out_of_memory(
    follower: Follower,
    publish: Callable[..., str],
    reports: list[Unhealthy],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    first = publish()
    follower.follow()
    shown = drawn(follower)
    second, pipe = publish(0.5), follower.renderer.pipe
    with monkeypatch.context() as patch:
        patch.setattr(type(pipe.unet if where == "add_adapter" else pipe), where, short)
        for _ in range(2):
            follower.follow()
            follower.record([("a", True)])
            assert follower.problem == "generation 2 is pending, generation 1 is served: CUDA out of memory"
    assert (follower.served, follower.rejected, reports) == (Served(first, 1), None, [])
    assert (drawn(follower), adapters(follower)) == (shown, [first])
    follower.follow()
    assert (follower.served, follower.problem, reports) == (Served(second, 2), "", [])


def test_new_release_is_not_rejected_when_the_served_one_fails_too(
    follower: Follower, publish: Callable[..., str], reports: list[Unhealthy], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish()
    follower.follow()
    second = publish(0.5)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("cuDNN error")

    with monkeypatch.context() as patch:
        patch.setattr(follower.renderer, "render", broken)
        follower.follow()
    assert (follower.served, follower.rejected, reports) == (Served(first, 1), None, [])
    assert f"generation 2 is pending, generation 1 is served: model '{first}': does not render" in follower.problem
    follower.follow()
    assert (follower.served, follower.problem) == (Served(second, 2), "")


def test_release_is_not_rejected_if_the_previous_one_does_not_fit_into_memory(
    follower: Follower, publish: Callable[..., str], reports: list[Unhealthy], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    second = publish(0.5)
    follower.follow()
    spoil(follower)
    monkeypatch.setattr("tasks.core.models.rendering.load_adapter", short)
    follower.record((prompt, False) for prompt in "abc")
    assert (follower.served, reports) == (Served(second, 2), [])
    assert "the previous release does not render either" in follower.problem


def test_release_is_not_rejected_on_out_of_memory(
    follower: Follower, publish: Callable[..., str], reports: list[Unhealthy], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish()
    follower.follow()
    monkeypatch.setattr(follower.renderer, "render", short)
    follower.record((prompt, False) for prompt in "abc")
    assert (follower.served, reports) == (Served(first, 1), [])
    assert follower.problem == "generation 1: CUDA out of memory"


def test_prompts_for_black_pictures_cause_no_roll_back(
    follower: Follower, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    publish()
    second = publish(0.5)
    follower.follow()
    follower.record((prompt, False) for prompt in ("solid black", "only black", "black, nothing else", "night"))
    assert (follower.served, follower.problem, reports) == (Served(second, 2), "", [])


def test_out_of_memory_renders_do_not_count_against_the_release(
    local: ModelConfig, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    publish()
    second = publish(0.5)
    engine = Engine(home(folder), local, 2, reports.append)
    engine.start()
    try:
        assert engine.ready.wait(120)
        follower, draw = engine.follower, engine.follower.renderer.render

        def crowded(prompts: list[str], *args: object) -> object:
            """The test render fits into memory, requests do not."""
            if not prompts[0].startswith("a picture in"):
                short()
            return draw(prompts, *args)  # type: ignore[arg-type]

        follower.renderer.render = crowded  # type: ignore[assignment, method-assign]
        for prompt in ("rings", "dots", "waves"):
            with pytest.raises(torch.OutOfMemoryError):
                engine.submit(prompt, 1, 2).result(60)
        assert (follower.served, follower.failed_prompts, reports) == (Served(second, 2), set(), [])
        assert follower.problem == "generation 2: CUDA out of memory"
        follower.renderer.render = draw  # type: ignore[method-assign]
        assert engine.submit("rings", 1, 2).result(60).release == second
    finally:
        engine.stop()
    assert follower.problem == ""


def test_batch_that_does_not_fit_into_memory_is_rendered_one_by_one(
    local: ModelConfig, folder: FolderStore, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = follower.renderer.render

    def narrow(prompts: list[str], *args: object) -> object:
        if len(prompts) > 1 or prompts == ["dots"]:
            short()
        return draw(prompts, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(follower.renderer, "render", narrow)
    engine = Engine(home(folder), local, 3, follower.report)
    batch = [Job(prompt, 1, 2) for prompt in ("rings", "dots", "waves")]
    assert engine._render(follower, batch) == [("rings", True), ("waves", True)]
    assert [job.done.exception() is None for job in batch] == [True, False, True]
    assert "out of memory" in follower.problem
