"""Several models of one base in one process: each picture by the right release, whatever is switched meanwhile."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.storefront.drawing import Drawings, parse_aliases
from deployments.storefront.errors import FieldInvalid, ModelNotFound, RenderUnavailable
from deployments.storefront.mirror import Mirror
from deployments.storefront.render_queue import RenderedPicture, RenderOrder, Served
from deployments.storefront.service import StorefrontService
from tasks.core.config.model import ModelConfig
from tasks.core.errors import ModelUnknown, ReleaseWithdrawn
from tasks.core.installation import BasesDiffer, of_one_base
from tasks.core.registry.models import apply_config
from tasks.core.registry.withdrawals import Withdrawal, record_withdrawal
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.shop import NOW
from tests.unit.deployments.storefront.releases import MODEL, damage, draw, home, order, wait_until

NAMES = ("adire", "indigo", "kampala")
SCALES = {"adire": 1.0, "indigo": 0.5, "kampala": 1.6}


@pytest.fixture
def three(
    serve: Callable[..., StorefrontService], publish: Callable[..., str], local: ModelConfig
) -> StorefrontService:
    for name in NAMES:
        publish(SCALES[name], model=name)
    return serve(*(local.model_copy(update={"name": name}) for name in NAMES), render_batch=4)


def numbers(picture: RenderedPicture) -> Any:
    return np.asarray(picture.image, int)


def asked(service: StorefrontService, model: str, seed: int, served: Served | None = None) -> RenderOrder:
    side = service.engine.own_size[0]
    return order(f"rings {seed}", seed, model, served=served, width=side, height=side, steps=2)


def test_each_picture_is_by_the_release_that_it_names(three: StorefrontService) -> None:
    orders = [asked(three, name, seed) for seed in range(12) for name in NAMES]
    futures = [future for each in orders for future in three.engine.submit([each])]
    pictures = [future.result(120) for future in futures]
    for each, picture in zip(orders, pictures, strict=True):
        assert picture.served == three.models[each.model].follower.served
        alone = three.engine.submit([asked(three, each.model, each.seed, picture.served)])[0].result(60)
        assert abs(numbers(alone) - numbers(picture)).max() <= 1
    one = [numbers(three.engine.submit([asked(three, name, 0)])[0].result(60)) for name in NAMES]
    assert all(abs(one[i] - one[k]).max() > 8 for i, k in ((0, 1), (1, 2), (0, 2))), "they differ visibly"


def test_the_same_release_under_two_generations_is_named_as_it_was_asked_for(three: StorefrontService) -> None:
    """As after a roll-back: both would fit into one forward pass."""
    champion = three.models["adire"].follower.served
    older = Served(champion.release, 7)
    orders = [asked(three, "adire", seed, older if seed % 2 else None) for seed in range(8)]
    futures = [future for each in orders for future in three.engine.submit([each])]
    assert [future.result(60).served for future in futures] == [champion, older] * 4


def test_a_flood_of_one_model_does_not_starve_the_others(three: StorefrontService) -> None:
    flood = [three.engine.submit([asked(three, "adire", seed)])[0] for seed in range(200)]
    quiet = [three.engine.submit([asked(three, name, 0)])[0].result(120) for name in NAMES[1:]]
    assert [picture.served.generation for picture in quiet] == [1, 1]
    assert sum(future.done() for future in flood) < 100
    for future in flood:
        future.cancel()


def test_switches_under_load_lose_no_picture(
    three: StorefrontService, publish: Callable[..., str], folder: FolderStore
) -> None:
    """Ten switches, two broken releases between them: every picture is by the release that its response names."""
    stop, made = threading.Event(), list[tuple[RenderOrder, RenderedPicture]]()

    def visit(number: int) -> None:
        seed = number * 1000
        while not stop.is_set():
            each = asked(three, NAMES[number % 3], seed % 7)
            made.append((each, three.engine.submit([each])[0].result(60)))
            seed += 1

    with ThreadPoolExecutor(6) as pool:
        visits = [pool.submit(visit, number) for number in range(6)]
        for number in range(10):
            name = NAMES[number % 3]
            release = publish(0.3 + number / 10, model=name)
            follower = three.models[name].follower
            if number in (4, 7):
                damage(folder, release, name)
                wait_until(lambda f=follower, r=release: f.rejected is not None and f.rejected.release == r)  # type: ignore[misc]
            else:
                wait_until(lambda r=release: any(each.served.release == r for _, each in [*made]))  # type: ignore[misc]
        stop.set()
        for done in visits:
            done.result()
    releases = {picture.served.release for _, picture in made}
    assert len(releases) >= 8
    for each, picture in {(one.model, one.seed, drawn.served): (one, drawn) for one, drawn in made}.values():
        again = three.engine.submit([asked(three, each.model, each.seed, picture.served)])[0].result(60)
        assert abs(numbers(again) - numbers(picture)).max() <= 1


def test_least_recently_used_adapters_leave_memory_and_champions_stay(
    serve: Callable[..., StorefrontService], publish: Callable[..., str]
) -> None:
    releases = [publish(scale) for scale in (0.2, 0.4, 0.6, 0.8, 1.0)]
    service = serve(adapters=2)
    mirror, engine = service.mirror, service.engine
    for generation, release in enumerate(releases[:4], 1):
        mirror.release(MODEL, release)
        (future,) = engine.submit([asked(service, MODEL, 1, Served(release, generation))])
        assert future.result(60).served == Served(release, generation)
    engine.call(lambda: None)
    assert engine.adapters.loaded == [releases[4], releases[2], releases[3]]
    assert engine.adapters.renderer.pipe.get_list_adapters()["unet"] == [releases[4], releases[2], releases[3]]
    assert draw(engine).served.release == releases[4]


def test_a_release_that_is_gone_never_becomes_the_bare_base(
    serve: Callable[..., StorefrontService], publish: Callable[..., str]
) -> None:
    publish()
    service = serve()
    gone = Served("0123456789abcdef", 7)
    (future,) = service.engine.submit([asked(service, MODEL, 1, gone)])
    with pytest.raises(Exception, match="no LoRA for this base"):
        future.result(60)
    assert draw(service.engine).served.generation == 1


def test_names_of_models(three: StorefrontService, publish: Callable[..., str]) -> None:
    first = three.models["adire"].follower.served.release
    second = publish(0.7)
    wait_until(lambda: 2 in three.models["adire"].catalogue.releases)
    drawings: Drawings = three.drawings
    drawings.aliases = parse_aliases("gpt-image-1=adire, old = adire@1")
    found = {name: drawings.find(name).served for name in ("adire", "gpt-image-1", "adire-base", "adire@1", "old")}
    assert found == {
        "adire": None,
        "gpt-image-1": None,
        "adire-base": Served(),
        "adire@1": Served(first, 1),
        "old": Served(first, 1),
    }
    assert drawings.find(f"adire@{second}").served == Served(second, 2)
    for unknown in ("dall-e-3", "adire@9", "adire@", "adire@../../etc", f"indigo@{second}", "-base", "@1"):
        with pytest.raises(ModelNotFound):
            drawings.find(unknown)
    with pytest.raises(FieldInvalid, match="name one of adire, indigo, kampala"):
        drawings.find(None)


def test_withdrawn_releases_can_not_be_asked_for(
    serve: Callable[..., StorefrontService], publish: Callable[..., str], folder: FolderStore
) -> None:
    release = publish()
    publish(0.5)
    service = serve()
    service.mirror.release(MODEL, release)
    assert service.mirror.path(MODEL, release).exists()
    withdrawn = Withdrawal(release=release, training="t", actor="ada", reason="a picture", time=NOW)
    record_withdrawal(folder, MODEL, withdrawn)
    service.models[MODEL].looked = 0.0
    wait_until(lambda: 1 not in service.models[MODEL].catalogue.releases)
    with pytest.raises(ModelNotFound):
        service.drawings.find("adire@1")
    wait_until(lambda: not service.mirror.path(MODEL, release).exists())
    with pytest.raises(ReleaseWithdrawn):
        service.mirror.release(MODEL, release)


def test_a_model_is_closed_without_a_restart(
    serve: Callable[..., StorefrontService], folder: FolderStore, local: ModelConfig
) -> None:
    model = serve().models[MODEL]
    assert model.config.serving.api == "open"
    apply_config(folder, local.model_copy(update={"serving": local.serving.model_copy(update={"api": "key"})}))
    model.looked = 0.0
    wait_until(lambda: model.config.serving.api == "key")
    wait_until(lambda: [config.serving.api for config in Mirror(home(folder)).configs()] == ["key"])


def test_the_mirror_is_bounded(folder: FolderStore, publish: Callable[..., str]) -> None:
    releases = [publish(scale) for scale in (0.2, 0.4, 0.6)]
    mirror = Mirror(home(folder), most=2)
    for release in releases:
        mirror.release(MODEL, release)
    assert sorted(mirror.local.folders(f"models/{MODEL}/releases/")) == sorted(releases[1:])


def test_models_of_one_base(local: ModelConfig) -> None:
    other = local.model_copy(update={"name": "other"})
    assert of_one_base([local, other]) == [local, other]
    assert of_one_base([local, other], ["other"]) == [other]
    foreign = adire(name="foreign", base="another")
    assert of_one_base([local, foreign], [MODEL]) == [local]
    with pytest.raises(BasesDiffer, match="name some with --model"):
        of_one_base([local, foreign])
    with pytest.raises(ModelUnknown):
        of_one_base([local], ["none"])
    with pytest.raises(ModelUnknown):
        of_one_base([])


def test_mirror_place_is_of_the_store(folder: FolderStore, tmp_path: Path) -> None:
    assert (
        Mirror(home(folder)).folder == Mirror(home(folder)).folder != Mirror(home(FolderStore(tmp_path / "b"))).folder
    )


def test_a_named_release_that_cannot_be_fetched_is_not_said_to_be_gone(
    three: StorefrontService, publish: Callable[..., str], folder: FolderStore, tmp_path: Path
) -> None:
    """The store is away, or the release is damaged: a visitor reads neither where the store is nor what is in it."""
    damaged = publish(0.7)
    wait_until(lambda: 2 in three.models["adire"].catalogue.releases)
    three.mirror.verified.clear()
    shutil.rmtree(three.mirror.path("adire", three.models["adire"].catalogue.releases[1]))
    damage(folder, damaged)
    shutil.rmtree(three.mirror.path("adire", damaged))

    def fetch(generation: int) -> None:
        model = three.models["adire"]
        asyncio.run(three.drawings._fetch(model, model.find(str(generation), "adire")))

    with pytest.raises(ModelNotFound, match="this one is damaged, or gone"):
        fetch(2)
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(RenderUnavailable, match="this release is not here, and cannot be fetched now"):
        fetch(1)
    (tmp_path / "away").rename(tmp_path / "store")
    fetch(1)
