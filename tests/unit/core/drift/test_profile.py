"""A profile survives its file; a file that is damaged or of another layout is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tasks.core.drift import DriftProfile, fit_profile
from tasks.core.drift.errors import ProfileUnusable
from tests.unit.core.drift.kinds import KINDS, SPEC, Checker, World, texts_of


def test_the_profile_survives_its_file(profile: DriftProfile, run: Checker, tmp_path: Path) -> None:
    profile.save(tmp_path / "profile.safetensors")
    again = DriftProfile.load(tmp_path / "profile.safetensors")
    rows = World().seeded(900).window(300, 0.2)
    assert again.card == profile.card
    assert run(rows, profile=again) == run(rows)
    assert [path.name for path in tmp_path.iterdir()] == ["profile.safetensors"]


def _resave(path: Path, drop: str | None = None, **changed: object) -> None:
    with safe_open(path, framework="numpy") as held:
        card = json.loads(held.metadata()["dyeworks"]) | changed
    tensors = {name: value for name, value in load_file(path).items() if name != drop}
    save_file(tensors, path, metadata={"dyeworks": json.dumps(card)})


@pytest.mark.parametrize(
    ("drop", "changed"),
    [
        (None, {"layout": "dyeworks.drift.profile/2"}),
        (None, {"phi": 0.5}),
        (None, {"rows_b": 1}),
        ("precision", {}),
    ],
)
def test_a_file_of_another_layout_is_refused(
    profile: DriftProfile, tmp_path: Path, drop: str | None, changed: dict[str, object]
) -> None:
    path = tmp_path / "profile.safetensors"
    profile.save(path)
    _resave(path, drop, **changed)
    with pytest.raises(ProfileUnusable, match=r"profile\.safetensors"):
        DriftProfile.load(path)


def test_what_is_no_profile_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(2)}, tmp_path / "plain")
    (tmp_path / "torn").write_bytes(b"{}")
    for name in ("plain", "torn", "missing"):
        with pytest.raises(ProfileUnusable, match=name):
            DriftProfile.load(tmp_path / name)


def test_texts_survive_the_file(tmp_path: Path) -> None:
    world = World().seeded(934)
    known = world.rng.choice(KINDS, 1000, p=world.zipf)
    profile = fit_profile(world.embed(known), texts=[f"{t} ናይጄሪያ" for t in texts_of(known)], spec=SPEC)
    profile.save(tmp_path / "profile")
    assert DriftProfile.load(tmp_path / "profile").texts == profile.texts
    assert len(profile.texts) == profile.card.rows_b


def test_a_profile_of_a_later_version_is_read_and_keeps_its_name(profile: DriftProfile, tmp_path: Path) -> None:
    path = tmp_path / "profile.safetensors"
    profile.save(path)
    assert DriftProfile.load(path).digest == profile.digest
    _resave(path, added="by a later version")
    later = DriftProfile.load(path)
    assert later.card == profile.card
    assert later.digest != profile.digest
    later.save(path)
    assert DriftProfile.load(path).digest == later.digest
    with safe_open(path, framework="numpy") as held:
        assert json.loads(held.metadata()["dyeworks"])["added"] == "by a later version"
