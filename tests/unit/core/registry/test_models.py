"""The models of a store: each applied configuration is stored, and the newest is in force."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tasks.core.errors import DocumentInvalid, ModelUnknown
from tasks.core.registry.models import apply_config, configuration, configurations, model_names
from tasks.core.store import FolderStore
from tests.adire import adire

WRITERS = 8


def test_the_newest_configuration_is_in_force_and_earlier_ones_are_stored(folder: FolderStore) -> None:
    for steps in (3, 4, 3):
        apply_config(folder, adire(serving={"steps": steps}))
    assert [(c.number, c.config.serving.steps) for c in configurations(folder, "adire")] == [(1, 3), (2, 4), (3, 3)]
    assert configuration(folder, "adire") == configurations(folder, "adire")[-1]


def test_applying_the_configuration_in_force_changes_nothing(folder: FolderStore) -> None:
    first = apply_config(folder, adire())
    assert apply_config(folder, adire()) == first
    assert len(configurations(folder, "adire")) == 1


def test_a_model_needs_a_configuration(folder: FolderStore) -> None:
    folder.create("models/ikat/releases/ab12/manifest.json", b"{}")
    assert model_names(folder) == []
    for name in ("batik", "adire"):
        apply_config(folder, adire(name=name))
    assert model_names(folder) == ["adire", "batik"]
    with pytest.raises(ModelUnknown, match="no model 'ikat'; there are adire, batik"):
        configuration(folder, "ikat")
    with pytest.raises(ModelUnknown, match="name a model"):
        configuration(folder, "")
    for name in ("../batik", "bat\nik", "batik/config"):
        with pytest.raises(ModelUnknown, match="there are adire, batik"):
            configuration(folder, name)


def test_a_configuration_of_another_model_is_refused(folder: FolderStore) -> None:
    apply_config(folder, adire())
    folder.write("models/batik/config/000001.json", folder.read("models/adire/config/000001.json"))
    with pytest.raises(DocumentInvalid, match="it is of model 'adire'"):
        configuration(folder, "batik")


def test_concurrent_applications_get_different_numbers(folder: FolderStore) -> None:
    together = Barrier(WRITERS)

    def apply(steps: int) -> int:
        together.wait()
        return apply_config(folder, adire(serving={"steps": steps})).number

    with ThreadPoolExecutor(WRITERS) as writers:
        numbers = list(writers.map(apply, range(1, WRITERS + 1)))
    assert sorted(numbers) == list(range(1, WRITERS + 1))
    kept = {c.number: c.config.serving.steps for c in configurations(folder, "adire")}
    assert kept == dict(zip(numbers, range(1, WRITERS + 1), strict=True))


@pytest.mark.any_key
def test_other_files_beside_the_configurations_are_not_read(folder: FolderStore) -> None:
    first = apply_config(folder, adire())
    for name in (".DS_Store", "notes.txt"):
        folder.write(f"models/adire/config/{name}", b"")
        folder.write(f"models/ikat/config/{name}", b"")
    assert model_names(folder) == ["adire"]
    assert configurations(folder, "adire") == [first]
    assert apply_config(folder, adire()) == first
