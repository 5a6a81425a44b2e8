"""The served release, on a real tiny pipeline: one that fails to render is rejected and reported once."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from deployments.storefront.engine import Engine, Job
from deployments.storefront.errors import RenderUnavailable
from deployments.storefront.follower import Follower, Served
from tasks.core.config.model import ModelConfig
from tasks.core.errors import ObjectUnreadable, StoreUnusable
from tasks.core.events import Unhealthy
from tasks.core.installation import Installation
from tasks.core.models.families import family_of
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.images import image_fault
from tasks.core.models.pipeline import load_pipeline
from tasks.core.models.rendering import Renderer
from tasks.core.registry.channel import flip
from tasks.core.registry.ledger import Entry, append, history
from tasks.core.registry.releases import ReleaseManifest, prefix, write_release
from tasks.core.store import FolderStore
from tests.adire import adire, installed

MODEL = "adire"
MANIFEST = ReleaseManifest(
    base_model="b", dataset="d", dataset_version="v", training="t", trigger="adire_style", files={}
)


@pytest.fixture(scope="module")
def local(pipelines: dict[str, Path]) -> ModelConfig:
    return adire(base=str(pipelines["sd15"]), serving={"steps": 2})


def home(store: FolderStore, **settings: object) -> Installation:
    return installed(store, device="cpu", **settings)


@pytest.fixture(scope="module")
def adapter(local: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LoRA with a visible effect."""
    folder = tmp_path_factory.mktemp("adapter")
    family = family_of(load_pipeline(local.base, "cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        family.pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v", "conv1"]))
        for parameter in family.pipe.unet.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
    family.save(folder)
    return folder


@pytest.fixture
def reports() -> list[Unhealthy]:
    return []


@pytest.fixture
def follower(local: ModelConfig, folder: FolderStore, reports: list[Unhealthy]) -> Follower:
    return Follower(home(folder), local, Renderer(local.base, "cpu"), 3, reports.append)


def released(store: FolderStore, adapter: Path, place: Path, scale: float = 1.0) -> str:
    """A release of the LoRA with scaled weights; with NaN it renders black."""
    place.mkdir()
    save_file({k: v * scale for k, v in load_file(adapter / WEIGHTS).items()}, place / WEIGHTS, {"format": "pt"})
    return write_release(store, MODEL, place, MANIFEST)


@pytest.fixture
def publish(folder: FolderStore, adapter: Path, tmp_path: Path) -> Callable[..., str]:
    """Promote and publish a release of some scale, or one by name."""

    def put(scale: float = 1.0, release: str | None = None) -> str:
        generation = len(history(folder, MODEL)) + 1
        name = released(folder, adapter, tmp_path / f"made-{generation}", scale) if release is None else release
        entry = Entry(
            generation=generation,
            action="promote",
            release=name,
            dataset_version="v",
            actor="gate",
            reason="better",
            time=datetime(2026, 1, generation, tzinfo=UTC),
        )
        append(folder, MODEL, entry)
        flip(folder, MODEL, entry)
        return name

    return put


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def drawn(follower: Follower) -> list[object]:
    return [np.asarray(follower.renderer.render(["rings"], [1], 2, 2.0)[0][0]).tolist()]


def adapters(follower: Follower) -> list[str]:
    return list(follower.renderer.pipe.get_list_adapters().get("unet", []))


def test_the_champion_is_followed(follower: Follower, publish: Callable[..., str], reports: list[Unhealthy]) -> None:
    bare = drawn(follower)
    first = publish()
    follower.follow()
    assert follower.served == Served(first, 1)
    shown = drawn(follower)
    assert shown != bare
    second = publish(0.5)
    follower.follow()
    assert follower.served == Served(second, 2)
    assert drawn(follower) != shown
    assert adapters(follower) == [second]
    assert (reports, follower.problem) == ([], "")


def test_the_bare_base_is_served_when_the_channel_names_no_release(
    follower: Follower, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    bare = drawn(follower)
    publish()
    follower.follow()
    publish(release="")
    follower.follow()
    assert follower.served == Served("", 2)
    assert drawn(follower) == bare
    publish()
    follower.follow()
    assert follower.served.generation == 3
    assert drawn(follower) != bare
    assert reports == []


def damage(store: FolderStore, release: str) -> None:
    key = prefix(MODEL, release) + WEIGHTS
    store.write(key, store.read(key)[:-1] + b"x")


def remove(store: FolderStore, release: str) -> None:
    store.delete(prefix(MODEL, release) + WEIGHTS)


@pytest.mark.parametrize(
    ("scale", "harm", "reason"),
    [
        (0.5, damage, "does not match its sha256"),
        (0.5, remove, "no object"),
        (float("nan"), lambda *_: None, "that are no finite numbers"),
        (1e25, lambda *_: None, "its alpha or its values are wrong"),
    ],
    ids=["corrupt", "incomplete", "not a number", "too strong"],
)
def test_release_that_fails_to_render_is_reported_once_and_the_previous_one_served(
    follower: Follower,
    folder: FolderStore,
    publish: Callable[..., str],
    reports: list[Unhealthy],
    scale: float,
    harm: Callable[[FolderStore, str], None],
    reason: str,
) -> None:
    first = publish()
    follower.follow()
    shown = drawn(follower)
    bad = publish(scale)
    harm(folder, bad)
    for _ in range(3):
        follower.follow()
    assert follower.served == Served(first, 1)
    assert drawn(follower) == shown
    assert adapters(follower) == [first]
    (report,) = reports
    assert (report.generation, report.release, report.kind) == (2, bad, "health")
    assert reason in report.reason
    assert "generation 2 is rejected, generation 1 is served" in follower.problem
    publish(release=first)  # the roll-back
    follower.follow()
    assert (follower.served, follower.problem) == (Served(first, 3), "")
    assert len(reports) == 1


def test_invalid_lora_file_is_rejected(
    follower: Follower, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy], tmp_path: Path
) -> None:
    bare = drawn(follower)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / WEIGHTS).write_bytes(b"not safetensors")
    publish(release=write_release(folder, MODEL, tmp_path / "odd", MANIFEST))
    follower.follow()
    assert (follower.served, drawn(follower)) == (Served(), bare)
    assert "is no LoRA for this base" in reports[0].reason


def test_start_with_a_bad_champion_serves_the_previous_release(
    follower: Follower, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    first = publish()
    damage(folder, publish(0.5))
    follower.follow()
    assert follower.served == Served(first, 1)
    assert [report.generation for report in reports] == [2]


def test_unavailable_store_is_not_a_fault_of_the_release(
    follower: Follower, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy], tmp_path: Path
) -> None:
    release = publish()
    weights = tmp_path / "store" / prefix(MODEL, release) / WEIGHTS
    data = weights.read_bytes()
    weights.unlink()
    weights.symlink_to(weights)  # it cannot be read, as on an unmounted disk
    with pytest.raises(ObjectUnreadable):
        follower.follow()
    assert (follower.served, reports) == (Served(), [])
    weights.unlink()
    weights.write_bytes(data)
    follower.follow()
    assert follower.served == Served(release, 1)


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


def unreadable(tmp_path: Path, key: str) -> Callable[[], None]:
    """Make reading an object raise an OSError, as on an unmounted disk; returns a function that restores it."""
    place = tmp_path / "store" / key
    data = place.read_bytes()
    place.unlink()
    place.symlink_to(place)

    def back() -> None:
        place.unlink()
        place.write_bytes(data)

    return back


@pytest.mark.parametrize("part", ["channel", "weights"])
def test_start_without_a_store_does_not_serve_the_bare_base(
    local: ModelConfig, folder: FolderStore, publish: Callable[..., str], tmp_path: Path, part: str
) -> None:
    release = publish()
    key = prefix(MODEL, release) + WEIGHTS if part == "weights" else f"models/{MODEL}/channels/champion.json"
    back = unreadable(tmp_path, key)
    engine = Engine(home(folder, poll_seconds=0.01), local, 3, lambda _: None)
    engine.start()
    try:
        assert engine.ready.wait(120)
        with pytest.raises(RenderUnavailable, match="the store cannot be read"):
            engine.submit("rings", 1, 2)
        back()
        wait_until(lambda: not engine.not_ready)
        assert engine.submit("rings", 1, 2).result(60).release == release
        unreadable(tmp_path, f"models/{MODEL}/channels/champion.json")
        wait_until(lambda: bool(engine.store_problem))
        assert engine.submit("rings", 1, 2).result(60).release == release, "the served release stays"
    finally:
        engine.stop()


def test_start_without_a_loadable_release_serves_nothing(
    follower: Follower, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    first = publish()
    key = prefix(MODEL, first) + WEIGHTS
    data = folder.read(key)
    damage(folder, first)
    damage(folder, publish(0.5))
    for _ in range(2):
        follower.follow()
    assert (follower.serving, [report.generation for report in reports]) == (False, [2])
    assert "generation 2 is rejected, nothing is served" in follower.problem
    folder.write(key, data)
    follower.follow()
    assert (follower.serving, follower.served) == (True, Served(first, 1))


def test_store_that_is_suddenly_empty_is_an_error(
    follower: Follower, folder: FolderStore, publish: Callable[..., str], local: ModelConfig, tmp_path: Path
) -> None:
    """As when a disk is not mounted: the next start creates the folder again."""
    release = publish()
    follower.follow()
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(StoreUnusable, match="its folder is gone"):
        follower.follow()
    restarted = Follower(home(FolderStore(tmp_path / "store")), local, follower.renderer, 3, follower.report)
    with pytest.raises(StoreUnusable, match="names no champion, though generation 1 was served"):
        restarted.follow()
    assert not restarted.serving
    (tmp_path / "store").rmdir()
    (tmp_path / "away").rename(tmp_path / "store")
    restarted.follow()
    assert (restarted.serving, restarted.served) == (True, Served(release, 1))


def test_bare_base_is_served_if_nothing_was_ever_published(follower: Follower) -> None:
    assert not follower.serving
    follower.follow()
    assert (follower.serving, follower.served, follower.problem) == (True, Served(), "")


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
