"""The served release when renders fail: whether the release, the machine or its memory is at fault."""

import errno
from collections.abc import Callable
from typing import NoReturn

import pytest
import torch

from deployments.storefront import mirror
from deployments.storefront.errors import RenderUnavailable
from deployments.storefront.follower import Follower
from deployments.storefront.render_queue import Served
from deployments.storefront.service import StorefrontService
from tasks.core.events import Unhealthy
from tasks.core.models.images import image_fault
from tasks.core.store import FolderStore
from tests.unit.deployments.storefront.releases import MODEL, damage, draw, drawn, loaded, order, wait_until


def spoil(follower: Follower) -> None:
    """Set the adapters in memory to NaN, and the weights that one is fused with, as by a fault of the device."""
    renderer = follower.engine.adapters.renderer
    with torch.no_grad():
        for name, parameter in renderer.pipe.unet.named_parameters():
            if "lora" in name:
                parameter.fill_(float("nan"))
        for layer in renderer.fused.kept if renderer.fused else ():
            layer.get_base_layer().weight.data.fill_(float("nan"))


def test_consecutive_black_pictures_reject_the_release(
    serve: Callable[..., StorefrontService], publish: Callable[..., str]
) -> None:
    first, second = publish(), publish(0.5)
    service = serve()
    follower, engine = service.models[MODEL].follower, service.engine
    reports: list[Unhealthy] = []
    follower.report = reports.append
    assert draw(engine).served.generation == 2
    service.engine.call(lambda: spoil(follower))
    for prompt in ("rings", "dots", "dots"):
        assert image_fault(draw(engine, prompt).image)
    assert (reports, follower.suspicion) == ([], ""), "two prompts, however often"
    assert image_fault(draw(engine, "waves").image)
    wait_until(lambda: bool(reports))
    after = draw(engine)
    assert after.served == Served(first, 1)
    assert not image_fault(after.image)
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
    follower.follow()
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
    second, pipe = publish(0.5), follower.engine.adapters.renderer.pipe
    with monkeypatch.context() as patch:
        patch.setattr(type(pipe.unet if where == "add_adapter" else pipe), where, short)
        for _ in range(2):
            follower.follow()
            follower.record([("a", True)])
            assert follower.problem == "generation 2 is pending, generation 1 is served: CUDA out of memory"
    assert (follower.served, follower.rejected, reports) == (Served(first, 1), None, [])
    assert (drawn(follower), loaded(follower)) == (shown, [first])
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
        patch.setattr(follower.engine.adapters.renderer, "render", broken)
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
    follower.follow()
    assert (follower.served, reports) == (Served(second, 2), [])
    assert "the previous release does not render either" in follower.problem


def test_release_is_not_rejected_on_out_of_memory(
    follower: Follower, publish: Callable[..., str], reports: list[Unhealthy], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish()
    follower.follow()
    monkeypatch.setattr(follower.engine.adapters.renderer, "render", short)
    follower.record((prompt, False) for prompt in "abc")
    follower.follow()
    assert (follower.served, reports) == (Served(first, 1), [])
    assert follower.problem == "generation 1: CUDA out of memory"


def test_prompts_for_black_pictures_cause_no_roll_back(
    follower: Follower, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    publish()
    second = publish(0.5)
    follower.follow()
    follower.record((prompt, False) for prompt in ("solid black", "only black", "black, nothing else", "night"))
    follower.follow()
    assert (follower.served, follower.problem, reports) == (Served(second, 2), "", [])


def test_out_of_memory_renders_do_not_count_against_the_release(
    serve: Callable[..., StorefrontService], publish: Callable[..., str]
) -> None:
    publish()
    second = publish(0.5)
    service = serve()
    follower, renderer = service.models[MODEL].follower, service.engine.adapters.renderer
    render = renderer.render

    def crowded(prompts: list[str], *args: object) -> object:
        """The test render fits into memory, requests do not."""
        if not prompts[0].startswith("a picture in"):
            short()
        return render(prompts, *args)  # type: ignore[arg-type]

    renderer.render = crowded  # type: ignore[assignment, method-assign]
    for prompt in ("rings", "dots", "waves"):
        with pytest.raises(RenderUnavailable, match="out of memory"):
            draw(service.engine, prompt)
    assert (follower.served, follower.failed_prompts) == (Served(second, 2), set())
    assert follower.problem == "generation 2: CUDA out of memory"
    renderer.render = render  # type: ignore[method-assign]
    assert draw(service.engine).served.release == second
    wait_until(lambda: follower.problem == "")


def test_batch_that_fitted_into_memory_is_remembered(
    serve: Callable[..., StorefrontService], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = serve(render_batch=8).engine
    renderer, sizes = engine.adapters.renderer, list[int]()
    render = renderer.render

    def narrow(prompts: list[str], *args: object) -> object:
        sizes.append(len(prompts))
        if len(prompts) > 3:
            short()
        return render(prompts, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(renderer, "render", narrow)
    side = engine.own_size[0]
    for tries in ([8, 4, 2, 2, 4, 2, 2], [2, 2, 2, 2]):
        sizes.clear()
        futures = engine.submit([order("rings", seed, width=side, height=side) for seed in range(8)])
        assert [future.result(60).served.generation for future in futures] == [0] * 8
        assert sizes == tries


def test_a_release_waits_for_room_on_the_disk(
    follower: Follower, publish: Callable[..., str], reports: list[Unhealthy], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish()
    follower.follow()
    second = publish(0.5)

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "put_release", full)
        follower.follow()
        assert (follower.served, reports) == (Served(first, 1), [])
        assert "generation 2 is pending, generation 1 is served: cache" in follower.problem
        assert "No space left on device; free space" in follower.problem
    follower.follow()
    assert (follower.served, follower.problem) == (Served(second, 2), "")
