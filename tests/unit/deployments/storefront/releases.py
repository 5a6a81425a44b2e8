"""Releases of a tiny pipeline for the tests of the storefront, and what damages them."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from deployments.storefront.follower import Follower
from tasks.core.installation import Installation
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry.releases import ReleaseManifest, prefix, write_release
from tasks.core.store import FolderStore
from tests.adire import installed

MODEL = "adire"
MANIFEST = ReleaseManifest(
    base_model="b", dataset="d", dataset_version="v", training="t", trigger="adire_style", files={}
)


def home(store: FolderStore, **settings: object) -> Installation:
    return installed(store, device="cpu", **settings)


def released(store: FolderStore, adapter: Path, place: Path, scale: float = 1.0) -> str:
    """A release of the LoRA with scaled weights; with NaN it renders black."""
    place.mkdir()
    save_file({k: v * scale for k, v in load_file(adapter / WEIGHTS).items()}, place / WEIGHTS, {"format": "pt"})
    return write_release(store, MODEL, place, MANIFEST)


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def drawn(follower: Follower) -> list[object]:
    return [np.asarray(follower.renderer.render(["rings"], [1], 2, 2.0)[0][0]).tolist()]


def adapters(follower: Follower) -> list[str]:
    return list(follower.renderer.pipe.get_list_adapters().get("unet", []))


def damage(store: FolderStore, release: str) -> None:
    key = prefix(MODEL, release) + WEIGHTS
    store.write(key, store.read(key)[:-1] + b"x")


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
