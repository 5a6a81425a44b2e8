"""The served release, on a real tiny pipeline: one that fails to load or render is rejected and reported once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.storefront.errors import RenderUnavailable
from deployments.storefront.follower import Follower
from deployments.storefront.mirror import Mirror
from deployments.storefront.render_queue import Served
from deployments.storefront.service import StorefrontService
from tasks.core.config.model import ModelConfig
from tasks.core.errors import ObjectUnreadable, StoreUnusable
from tasks.core.events import Unhealthy
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry.releases import prefix, write_release
from tasks.core.store import FolderStore
from tests.unit.deployments.storefront.releases import (
    MANIFEST,
    MODEL,
    damage,
    draw,
    drawn,
    home,
    loaded,
    unreadable,
    wait_until,
)


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
    assert loaded(follower) == [first, second]
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
    assert loaded(follower) == [first]
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


@pytest.mark.parametrize("part", ["channel", "weights"])
def test_first_start_without_a_store_does_not_serve_the_bare_base(
    serve: Callable[..., StorefrontService], publish: Callable[..., str], tmp_path: Path, part: str
) -> None:
    release = publish()
    key = prefix(MODEL, release) + WEIGHTS if part == "weights" else f"models/{MODEL}/channels/champion.json"
    back = unreadable(tmp_path, key)
    service = serve(ready=False)
    model = service.models[MODEL]
    wait_until(lambda: bool(model.store_problem))
    with pytest.raises(RenderUnavailable, match="no release is served"):
        draw(service.engine)
    assert "the store cannot be read" in model.not_ready
    with pytest.raises(RenderUnavailable, match="the store cannot be read"):
        service.status()
    back()
    wait_until(lambda: not model.not_ready)
    assert draw(service.engine).served == Served(release, 1)
    unreadable(tmp_path, f"models/{MODEL}/channels/champion.json")
    wait_until(lambda: bool(model.store_problem))
    assert draw(service.engine).served.release == release, "the served release stays"


def test_restart_without_the_store_serves_what_was_served_last(
    follower: Follower, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy], tmp_path: Path
) -> None:
    release = publish()
    follower.follow()
    shown = drawn(follower)
    back = unreadable(tmp_path, f"models/{MODEL}/channels/champion.json")
    again = Follower(folder, follower.model, Mirror(home(folder)), follower.engine, reports.append)
    with pytest.raises(ObjectUnreadable):
        again.follow()
    assert (again.served, again.serving, drawn(again)) == (Served(release, 1), True, shown)
    back()
    second = publish(0.5)
    again.follow()
    assert (again.served, again.problem, reports) == (Served(second, 2), "", [])


def test_damaged_copy_is_fetched_again(
    follower: Follower, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    release = publish()
    follower.follow()
    shown = drawn(follower)
    copy = follower.mirror.path(MODEL, release) / WEIGHTS
    copy.write_bytes(b"half of i")
    follower.engine.adapters.drop(release)
    again = Follower(folder, follower.model, Mirror(home(folder)), follower.engine, reports.append)
    again.follow()
    assert (again.served, drawn(again)) == (Served(release, 1), shown)


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
    store = FolderStore(tmp_path / "store")
    restarted = Follower(store, local, Mirror(home(store)), follower.engine, follower.report)
    with pytest.raises(StoreUnusable, match="names no champion, though generation 1 was served"):
        restarted.follow()
    assert (restarted.serving, restarted.served) == (True, Served(release, 1)), "as it was last served here"
    (tmp_path / "store").rmdir()
    (tmp_path / "away").rename(tmp_path / "store")
    restarted.follow()
    assert (restarted.serving, restarted.served) == (True, Served(release, 1))


def test_bare_base_is_served_if_nothing_was_ever_published(follower: Follower) -> None:
    assert not follower.serving
    follower.follow()
    assert (follower.serving, follower.served, follower.problem) == (True, Served(), "")


def test_restart_after_two_bad_champions_serves_what_was_served_last(
    follower: Follower, folder: FolderStore, publish: Callable[..., str], reports: list[Unhealthy]
) -> None:
    first = publish()
    follower.follow()
    for scale in (0.5, 0.6):
        damage(folder, publish(scale))
        follower.follow()
    assert follower.served == Served(first, 1)
    again = Follower(folder, follower.model, Mirror(home(folder)), follower.engine, reports.append)
    again.follow()
    assert (again.served, again.serving) == (Served(first, 1), True)
    assert "generation 3 is rejected, generation 1 is served" in again.problem
