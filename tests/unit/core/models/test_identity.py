"""What names a base model and a scorer: their weights, wherever they lie."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.config.model import EMBEDDED
from tasks.core.errors import ModelUnusable
from tasks.core.models.identity import EMBEDDED_FOLDER, _asked, base_fingerprint, locate, pinned, scorer_fingerprint
from tests.hub_repos import Commit, Repo
from tests.hub_server import HubServer

WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"


def base(folder: Path | str) -> str:
    return base_fingerprint(str(folder))


def scorer(folder: Path) -> str:
    return scorer_fingerprint(f"local-dir:{folder}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with weights of two parts, by their look: nothing here reads them."""
    for part, data in (("unet", b"denoises"), ("vae", b"encodes")):
        (tmp_path / "model" / part).mkdir(parents=True)
        (tmp_path / "model" / part / "diffusion_pytorch_model.safetensors").write_bytes(data)
    (tmp_path / "model" / "README.md").write_text("mine")
    return tmp_path / "model"


named = pytest.mark.parametrize("name", [base, scorer])


@named
def test_an_edited_weight_file_gives_another_name(name: Callable[[Path], str], model: Path) -> None:
    before = name(model)
    assert before.startswith("local-")
    (model / WEIGHTS).write_bytes(b"denoises better")
    assert name(model) != before


@named
def test_an_edit_that_keeps_the_size_is_seen_by_its_time(name: Callable[[Path], str], model: Path) -> None:
    before, time = name(model), (model / WEIGHTS).stat().st_mtime_ns
    (model / WEIGHTS).write_bytes(b"DENOISES")
    os.utime(model / WEIGHTS, ns=(time + 1, time + 1))
    assert name(model) != before


@named
def test_a_moved_or_copied_folder_keeps_its_name(name: Callable[[Path], str], model: Path) -> None:
    before = name(model)
    shutil.copytree(model, model.with_name("copy"))
    (model.with_name("copy") / "README.md").write_text("yours")
    model.rename(model.with_name("moved"))
    assert name(model.with_name("moved")) == name(model.with_name("copy")) == before


@named
def test_weights_are_not_read_again_while_time_and_size_are_the_same(name: Callable[[Path], str], model: Path) -> None:
    before, time = name(model), (model / WEIGHTS).stat().st_mtime_ns
    (model / WEIGHTS).write_bytes(b"DENOISES")
    os.utime(model / WEIGHTS, ns=(time, time))
    assert name(model) == before


def test_the_same_weights_in_other_parts_are_another_model(model: Path) -> None:
    before = base(model)
    (model / "unet").rename(model / "swapped")
    (model / "vae").rename(model / "unet")
    (model / "swapped").rename(model / "vae")
    assert base(model) != before


def test_a_link_is_what_it_points_to(model: Path) -> None:
    weights = model / WEIGHTS
    before = base(model)
    weights.rename(model.parent / "blob")
    weights.symlink_to(model.parent / "blob")
    assert base(model) == before
    (model.parent / "blob").write_bytes(b"another")
    assert base(model) != before


def test_a_model_of_the_hub_is_named_by_id_and_revision() -> None:
    assert base("someone/model@0f2b3c") == "someone/model@0f2b3c"


@pytest.fixture
def hub(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub_server.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    hub_server.repos["cloth/base"] = Repo()
    _asked.cache_clear()
    yield hub_server
    _asked.cache_clear()


def test_a_model_of_the_hub_without_a_revision_is_named_by_its_newest_commit_of_a_process(hub: HubServer) -> None:
    repo = hub.repos["cloth/base"]
    first = f"cloth/base@{repo.main}"
    assert base("cloth/base") == first
    assert locate("cloth/base") == ("cloth/base", repo.main)
    repo.add(Commit("better", {}, repo.main))
    assert base("cloth/base") == first, "a run does not change its base"
    _asked.cache_clear()
    assert base("cloth/base") == f"cloth/base@{repo.main}" != first


def test_while_the_hub_is_away_the_commit_in_the_cache_counts(hub: HubServer, tmp_path: Path) -> None:
    commit, model = "a" * 40, tmp_path / "hub" / "models--cloth--base"
    hub.faults["info"] = [500, 500]
    assert base("cloth/base") == "cloth/base", "nothing is known of its revision"
    for path, text in ((f"snapshots/{commit}/model_index.json", "{}"), ("refs/main", commit)):
        (model / path).parent.mkdir(parents=True)
        (model / path).write_text(text)
    assert base("cloth/base") == f"cloth/base@{commit}"
    assert base("cloth/base") == f"cloth/base@{hub.repos['cloth/base'].main}", "asked again once it is back"


def test_what_no_base_can_be_called_is_refused_by_name() -> None:
    with pytest.raises(ModelUnusable, match="neither a folder nor an id of the Hub"):
        base("no/such/folder")


def test_a_plan_s_base_of_the_hub_is_the_one_that_is_loaded(model: Path) -> None:
    assert pinned("cloth/base", "cloth/base@0f2b3c") == "cloth/base@0f2b3c"
    assert pinned(str(model), base(model)) == str(model)
    assert pinned("cloth/base", "") == "cloth/base"


def test_a_folder_may_have_an_at_sign(model: Path) -> None:
    before, moved = base(model), model.with_name("mine@home")
    model.rename(moved)
    assert base(moved) == before
    assert locate(str(moved)) == (str(moved), None)


def test_an_edited_configuration_gives_a_base_another_name(model: Path) -> None:
    (model / "scheduler").mkdir()
    config = model / "scheduler" / "scheduler_config.json"
    config.write_text('{"prediction_type": "epsilon"}')
    before = base(model)
    config.write_text('{"prediction_type": "v_prediction"}')
    assert base(model) != before


def test_the_embedded_base_is_named_as_it_was_and_a_copy_by_the_same_weights() -> None:
    embedded, copied = base_fingerprint(EMBEDDED), base(EMBEDDED_FOLDER / "pipeline")
    assert (embedded.partition("-")[0], copied.partition("-")[0]) == ("embedded", "local")
    assert embedded.partition("-")[2] == copied.partition("-")[2]
