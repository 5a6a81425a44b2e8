"""An installation: which model and which dataset are meant, and clear errors where neither is clear."""

from pathlib import Path

import pytest

from tasks.core.config.installation import MOVED, ROOT, Settings, read_settings
from tasks.core.errors import DatasetUnusable, ModelUnknown, SettingError
from tasks.core.installation import Installation, open_installation
from tasks.core.registry.models import apply_config
from tests.adire import adire


def test_it_is_opened_with_the_settings_of_the_environment(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYEWORKS_DEVICE", "cpu")
    opened = open_installation()
    assert (opened.settings.store, opened.settings.device) == (installation.settings.store, "cpu")
    assert opened.store.url == installation.store.url
    assert open_installation(installation.settings).settings is installation.settings


@pytest.mark.parametrize("name", MOVED)
def test_a_setting_that_belongs_to_a_model_is_refused_with_its_field(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"DYEWORKS_{name}", "x")
    with pytest.raises(SettingError, match=f"DYEWORKS_{name}: belongs to a model now: set {MOVED[name]} in"):
        read_settings()


def test_the_only_model_is_meant_where_none_is_named(installation: Installation) -> None:
    with pytest.raises(ModelUnknown, match="name a model; none was applied yet: dyeworks models apply FILE"):
        installation.model()
    apply_config(installation.store, adire())
    assert installation.model() == installation.model("adire") == adire()
    apply_config(installation.store, adire(name="batik"))
    with pytest.raises(ModelUnknown, match="name a model; there are adire, batik"):
        installation.model()
    assert [model.name for model in installation.models()] == ["adire", "batik"]


def test_a_model_that_is_not_there_is_unknown(installation: Installation) -> None:
    apply_config(installation.store, adire())
    with pytest.raises(ModelUnknown, match="no model 'batik'; there are adire") as caught:
        installation.model("batik")
    assert (caught.value.name, caught.value.known) == ("batik", ["adire"])


def test_every_model_that_subscribes_to_a_dataset_is_found(installation: Installation) -> None:
    for name, datasets in (("adire", ("adire",)), ("batik", ("wax", "adire")), ("ikat", ("ink",))):
        apply_config(installation.store, adire(name=name, datasets=datasets))
    assert [model.name for model in installation.subscribers("adire")] == ["adire", "batik"]
    assert [model.name for model in installation.subscribers("ink")] == ["ikat"]
    with pytest.raises(DatasetUnusable, match="no model subscribes to it; datasets of the models: adire, ink, wax"):
        installation.subscribers("cloth")


def test_the_only_dataset_is_meant_where_none_is_named(installation: Installation) -> None:
    with pytest.raises(SettingError, match="name a dataset; no model was applied yet"):
        installation.only_dataset()
    apply_config(installation.store, adire())
    apply_config(installation.store, adire(name="batik", datasets=("adire",)))
    assert installation.only_dataset() == "adire"
    apply_config(installation.store, adire(name="ikat"))
    with pytest.raises(SettingError, match="name a dataset; there are adire, ikat"):
        installation.only_dataset()


def test_the_default_store_is_the_same_in_every_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DYEWORKS_STORE", "DYEWORKS_CACHE"):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    assert (Settings().store, Settings().cache) == (str(ROOT / "build/store"), ROOT / "build/cache")
    assert "cache" not in Settings().model_fields_set
    monkeypatch.setenv("DYEWORKS_STORE", "here")
    assert Settings().store == "here", "a path that is given goes by the working folder, as in any command"
