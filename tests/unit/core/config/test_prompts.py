"""Prompt sets: shipped ones, one's own, and what is wrong with them in words."""

from pathlib import Path

import pytest
from prefect.utilities.schema_tools.validation import is_valid
from pydantic import ValidationError

from flows.evaluate_challenger import evaluate_challenger
from infra.base.tokenizer import WORDS
from tasks.core.config.installation import ROOT
from tasks.core.config.presets import EvaluationSpec, load_preset
from tasks.core.config.prompts import FOLDER, PromptSet, load_prompts
from tasks.core.errors import SettingError
from tasks.core.gate.statistics import MEASURES

GOOD = {"version": "mine", "trigger": ["rings in {trigger}", "dots in {trigger}"], "general": ["a cat"]}


@pytest.mark.parametrize("name", [p.stem for p in FOLDER.glob("*.yaml")])
def test_a_shipped_set_is_whole(name: str) -> None:
    prompts = load_prompts(name)
    assert prompts.version == name
    assert all("word" in p and "{" not in p for p in prompts.filled("trigger", "word"))
    grouped = prompts.grouped(prompts.trigger)
    assert len(grouped) >= 2
    assert all(len(some) >= 2 for some in grouped.values())


@pytest.mark.parametrize("preset", ["founding", "fast-gpu", "sdxl"])
def test_real_base_models_get_many_prompts(preset: str) -> None:
    prompts = load_preset(preset).evaluation.prompts
    assert prompts == load_prompts("adire-1") == EvaluationSpec().prompts
    assert len(prompts.trigger) >= 50
    assert len(prompts.class_noun) >= 12
    assert len(prompts.general) >= 16


def test_the_embedded_base_is_asked_in_words_that_it_knows() -> None:
    prompts = load_preset("embedded").evaluation.prompts
    asked = prompts.filled("trigger", "adire style") + prompts.general
    assert {word for prompt in asked for word in prompt.split()} <= set(WORDS)


def test_a_set_is_named_by_its_file_and_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "batik-2.yaml"
    path.write_text("trigger: ['rings in {trigger}']\ngeneral: [a cat]\n")
    spec = EvaluationSpec.model_validate({"prompts": str(path)})
    assert spec.prompts == PromptSet(version="batik-2", trigger=("rings in {trigger}",), general=("a cat",))
    assert "rings in {trigger}" in spec.model_dump_json()
    assert EvaluationSpec.model_validate_json(spec.model_dump_json()) == spec
    assert EvaluationSpec.model_validate({"prompts": GOOD}).prompts.version == "mine"


def test_a_group_is_of_whole_words() -> None:
    prompts = PromptSet(trigger=("Rings in {trigger}", "earrings in {trigger}"), general=("a",), groups=("rings",))
    assert prompts.grouped(prompts.trigger) == {"rings": ("Rings in {trigger}",)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trigger": ["rings"]}, "trigger: 'rings' needs {trigger} once, and no other braces"),
        ({"trigger": ["{trigger} on {trigger}"]}, "needs {trigger} once"),
        ({"trigger": ["rings in {triger}"]}, "needs {trigger} once"),
        ({"trigger": ["rings in {trigger"]}, "needs {trigger} once"),
        ({"trigger": []}, "at least 1 item"),
        ({"class_noun": ["a dress of {trigger}"]}, "needs {class_noun} once"),
        ({"general": ["a cat in {trigger}"]}, "general: 'a cat in {trigger}' needs no placeholder"),
        ({"general": [" "]}, "general: ' ' needs no placeholder"),
        ({"general": ["a cat", "A  cat"]}, "'a cat' is there 2 times"),
        ({"groups": ["dots", "moons"]}, "groups: no trigger prompt has the word 'moons'"),
        ({"groups": ["dots", "dots"]}, "the group 'dots' is there 2 times"),
        ({"triger": []}, "prompts.triger: unknown key, did you mean 'trigger'?"),
    ],
)
def test_what_is_wrong_with_a_set_is_told_with_its_place(tmp_path: Path, change: dict[str, object], told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(str({"evaluation": {"prompts": GOOD | change}}))
    with pytest.raises(SettingError) as caught:
        load_preset(str(path))
    assert told in str(caught.value)
    assert "evaluation.prompts" in str(caught.value)


def test_all_faults_of_a_set_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(str(GOOD | {"trigger": ["rings"], "general": ["a", "a"], "groups": ["x"]}))
    with pytest.raises(SettingError) as caught:
        load_prompts(str(path))
    assert all(part in str(caught.value) for part in ("mine.yaml", "'rings' needs", "'a' is there", "word 'x'"))


@pytest.mark.parametrize(("text", "told"), [("trigger: [", "is not YAML"), ("- a", "is no mapping")])
def test_a_file_that_is_no_set_is_a_wrong_setting(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SettingError, match=told):
        load_prompts(str(tmp_path / "mine.yaml"))


def test_a_name_that_is_not_there_is_told_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match="no prompt set 'adire-0'; take one of adire-1, embedded-1, or the path"):
        EvaluationSpec.model_validate({"prompts": "adire-0"})


def test_prefects_page_takes_a_name_and_a_set() -> None:
    schema = evaluate_challenger.parameters.model_dump(mode="json")
    for prompts, good in (("adire-1", True), (GOOD, True), ({"tigger": []}, False), (3, False)):
        assert is_valid({"spec": {"evaluation": {"prompts": prompts}}}, schema) is good


def test_every_measure_is_documented() -> None:
    text = (ROOT / "docs/gate.md").read_text()
    assert [measure for measure in MEASURES if f"| `{measure}` |" not in text] == []
