"""A model's file: what it may leave out, what it resolves to, and that all of its faults are reported at once."""

import os
from pathlib import Path

import pytest

from tasks.core.config.installation import ROOT
from tasks.core.config.model import EMBEDDED, ModelConfig, ServingSpec, read_model
from tasks.core.config.presets import Preset, load_preset
from tasks.core.errors import SettingError
from tests.adire import adire

LEAST = "{name: batik, trigger: batik_style, class_noun: wax-dyed cloth"


def written(folder: Path, text: str) -> Path:
    path = folder / "batik.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_s_file_is_what_the_defaults_are_but_for_a_shorter_training() -> None:
    assert read_model(ROOT / "infra/models/adire.yaml") == adire(overrides={"train": {"steps": 220}})


def test_a_model_needs_only_its_words(tmp_path: Path) -> None:
    model = read_model(written(tmp_path, LEAST + "}"))
    assert (model.base, model.scorer, model.preset) == (EMBEDDED, EMBEDDED, load_preset(EMBEDDED))
    assert model.serving == ServingSpec(steps=12, guidance=2)
    assert (model.publishing.store, model.publishing.hub_repo, model.notify_block) == ("", "", "")


@pytest.mark.parametrize(
    ("given", "datasets"),
    [("", ("batik",)), (", datasets: []", ("batik",)), (", datasets: [wax, ink]", ("wax", "ink"))],
)
def test_a_model_that_names_no_dataset_has_that_of_its_name(
    given: str, datasets: tuple[str, ...], tmp_path: Path
) -> None:
    model = read_model(written(tmp_path, LEAST + given + "}"))
    assert (model.datasets, model.dataset) == (datasets, datasets[0])


def test_overrides_change_only_what_they_name(tmp_path: Path) -> None:
    model = read_model(written(tmp_path, LEAST + ", preset: founding, overrides: {train: {prior: {weight: 0.5}}}}"))
    founding = load_preset("founding")
    prior = founding.train.prior.model_copy(update={"weight": 0.5})
    assert founding.train.prior.weight != 0.5
    assert model.preset == founding.model_copy(update={"train": founding.train.model_copy(update={"prior": prior})})


def test_a_preset_s_path_is_relative_to_the_model_s_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "own.yaml").write_text("train: {steps: 7}")
    assert read_model(written(tmp_path, LEAST + ", preset: own.yaml}")).preset.train.steps == 7


def test_what_was_resolved_goes_through_json() -> None:
    model = adire(preset="founding", overrides={"train": {"steps": 7}}, serving={"steps": 3})
    again = ModelConfig.model_validate_json(model.model_dump_json())
    assert again == model
    assert again.preset.train.steps == 7


def test_all_faults_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    text = "{nam: x, triger: y, preset: nothing, serving: {stepz: 1, guidance: 0}, datasets: [A b], licence: 3}"
    with pytest.raises(SettingError) as caught:
        read_model(written(tmp_path, text))
    for fault in (
        f"{tmp_path / 'batik.yaml'}: name: Field required",
        "nam: unknown key, did you mean 'name'?",
        "triger: unknown key, did you mean 'trigger'?",
        "; preset: no preset 'nothing'; take one of embedded, fast-gpu, founding, sdxl",
        "serving.stepz: unknown key, did you mean 'steps'?",
        "serving.guidance: Input should be greater than or equal to 1",
        "datasets.0: String should match pattern",
        "licence: Input should be a valid string",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("serving: {steps: 0}", "serving.steps: Input should be greater than or equal to 1"),
        ("serving: {steps: 101}", "serving.steps: Input should be less than or equal to 100"),
        ("datasets: wax", "datasets: Input should be a valid tuple"),
        ("datasets: [wax, wax]", "datasets: a dataset is there twice"),
        ("licence: ''", "licence: String should match pattern"),
        (
            "overrides: {train: {learning_rat: 1}}",
            "preset.train.learning_rat: unknown key, did you mean 'learning_rate",
        ),
        ("preset: {gate: {xyz: 4}}", "preset.gate.xyz: unknown key"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_place(given: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        read_model(written(tmp_path, f"{LEAST}, {given}}}"))
    assert fault in str(caught.value)


@pytest.mark.parametrize("given", ["preset:", "preset: 5", "preset: [founding]", "overrides: [1]"])
def test_a_preset_that_is_none_is_refused_and_not_taken_for_an_empty_one(given: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="preset: Input should be a valid dictionary or instance of Preset"):
        read_model(written(tmp_path, f"name: batik\ntrigger: batik_style\nclass_noun: cloth\n{given}\n"))


@pytest.mark.parametrize("name", ["Batik", "batik_2", "-batik", "batik-", "a/b", "..", "", "a" * 41])
def test_a_name_is_safe_in_keys_and_addresses(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="name: String should "):
        read_model(written(tmp_path, f"name: '{name}'\ntrigger: batik_style\nclass_noun: cloth\n"))


@pytest.mark.parametrize("text", ["''", "'  '", '"a\\nb"', "'a ` b'", '"a\\u202eb"', '"\\x07"'])
def test_trigger_and_class_noun_are_one_printable_line(text: str, tmp_path: Path) -> None:
    for trigger, noun, field in ((text, "cloth", "trigger"), ("batik_style", text, "class_noun")):
        with pytest.raises(SettingError, match=f"{field}: must be one line that is not blank"):
            read_model(written(tmp_path, f"{{name: batik, trigger: {trigger}, class_noun: {noun}}}"))


def test_a_file_must_be_a_file_of_moderate_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingError, match="pipe: is not a file"):
        read_model(tmp_path / "pipe")
    with pytest.raises(SettingError, match="more than 1,048,576"):
        read_model(written(tmp_path, "#" * (2**20 + 1)))


def test_a_whole_preset_may_be_given() -> None:
    own = Preset(train=load_preset("founding").train)
    assert adire(preset=own).preset == own
    assert adire(preset=own.model_dump()).preset == own


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name: batik\nname: ikat", "the key 'name' is there twice"),
        ("overrides: {train: {steps: 5, steps: 9}}", "the key 'steps' is there twice"),
        ("licence: 2020-99-99", "month must be in 1..12"),
        ("licence: " + "[" * 3000, "maximum recursion depth"),
    ],
)
def test_yaml_that_cannot_be_meant_is_refused(text: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        read_model(written(tmp_path, text))
    assert "is not YAML: " in str(caught.value)
    assert fault in str(caught.value)


def test_what_is_merged_from_an_anchor_may_be_changed(tmp_path: Path) -> None:
    text = LEAST + ", overrides: {train: &t {steps: 5}, evaluation: {<<: {steps: 3}, steps: 4}}}"
    assert read_model(written(tmp_path, text)).preset.evaluation.steps == 4


@pytest.mark.parametrize("number", [".inf", ".nan"])
def test_a_number_that_json_has_no_word_for_is_refused(number: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"serving\.guidance: Input should be a finite number"):
        read_model(written(tmp_path, f"{LEAST}, serving: {{guidance: {number}}}}}"))
