"""Settings, presets and requests: what is misspelt is told, all at once, with the nearest right word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.core.config import requests
from tasks.core.config.base import Spec
from tasks.core.config.installation import ROOT, Settings
from tasks.core.config.model import EMBEDDED, ModelConfig
from tasks.core.config.presets import PRESETS, EvaluationSpec, Preset, load_preset
from tasks.core.config.training import TrainSpec
from tasks.core.errors import SettingError
from tests.adire import adire

REQUESTS = [
    kind
    for kind in vars(requests).values()
    if isinstance(kind, type) and issubclass(kind, Spec) and kind.__module__ == requests.__name__
]


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", [p.stem for p in PRESETS.glob("*.yaml")])
def test_a_preset_loads_and_says_all_that_a_run_needs(name: str) -> None:
    preset = load_preset(name)
    assert len(preset.evaluation.prompts.trigger) >= 8
    assert Preset.model_validate_json(preset.model_dump_json()) == preset


def test_the_founding_preset_is_the_founding_recipe() -> None:
    train = load_preset("founding").train
    assert (train.rank, train.alpha, train.learning_rate, train.steps) == (4, 4, 1e-4, 800)
    assert (train.batch, train.accumulation, train.resolution, train.seed) == (1, 4, 512, 42)
    assert train.schedule == "constant"
    gate = load_preset("founding").gate
    assert (gate.floor, gate.max_seconds) == (0.75, 30)


def test_the_presets_for_gpus_say_how_the_training_is_carried_out() -> None:
    founding, fast, large = (load_preset(name).train for name in ("founding", "fast-gpu", "sdxl"))
    assert (large.resolution, large.rank, large.alpha, large.learning_rate) == (1024, 16, 16, 1e-4)
    assert large.compute.gradient_checkpointing
    assert fast.effective == founding.effective
    assert (fast.rank, fast.alpha, fast.steps) == (founding.rank, founding.alpha, founding.steps)
    assert (fast.schedule, fast.compute.channels_last, fast.compute.compile) == ("cosine", True, False)
    for train in (fast, large):
        assert (train.precision, train.buckets, train.min_snr_gamma) == ("bf16", True, 0)
        assert train.validation.every > 0


@pytest.mark.parametrize("name", [p.stem for p in PRESETS.glob("*.yaml")])
def test_a_preset_opens_with_how_to_choose_it_and_is_told_of(name: str) -> None:
    opening = (PRESETS / f"{name}.yaml").read_text().partition("train:")[0]
    assert ("It is the default" if name == EMBEDDED else f"preset: {name}, base: ") in opening
    assert name in str(ModelConfig.model_fields["preset"].description)
    assert f"`{name}`" in (ROOT / "docs/getting-started.md").read_text()


def test_the_model_chooses_the_preset() -> None:
    assert adire().preset == load_preset("embedded")
    assert adire(preset="founding").preset == load_preset("founding")


def test_a_file_of_ones_own_overrides_only_what_it_names(tmp_path: Path) -> None:
    preset = load_preset(written(tmp_path, "train: {rank: 16}\n"))
    assert preset == Preset(train=TrainSpec(rank=16))
    assert load_preset(written(tmp_path, "")) == Preset()


@pytest.mark.parametrize("name", ["foundling", "nowhere/mine.yaml"])
def test_a_missing_preset_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(
        SettingError, match=f"preset: no preset '{name}'; take one of embedded, fast-gpu, founding, sdxl"
    ):
        load_preset(name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train: {learning_rat: 1}", "train.learning_rat: unknown key, did you mean 'learning_rate'?"),
        ("trian: {rank: 4}", "trian: unknown key, did you mean 'train'?"),
        ("monitor: {drift: {min_efective: 100}}", "monitor.drift.min_efective: unknown key, did you mean 'min_effect"),
        ("gate: {xyz: 4}", "gate.xyz: unknown key"),
        ("train: {rank: four}", "train.rank: Input should be a valid integer"),
        ("train: {rank: 0}", "train.rank: Input should be greater than or equal to 1"),
        ("train: {schedule: cosin}", "train.schedule: Input should be"),
        ("policy: {mode: maybe}", "policy.mode: Input should be"),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingError) as caught:
        load_preset(written(tmp_path, text))
    assert told in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_file_is_read_as_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("ingest: {instance_prompt: ein Tuch für Ada}\nevaluation: {prompts: own-prompts.yaml}", "utf-8")
    prompts = "trigger: ['ein Tuch für {trigger}']\nclass_noun: ['ein Tuch für {class_noun}']"
    (tmp_path / "own-prompts.yaml").write_text(prompts, "utf-8")
    code = "import sys; from tasks.core.config.presets import load_preset; p = load_preset(sys.argv[1])\n"
    code += "print(ascii((p.ingest.instance_prompt, p.evaluation.prompts.trigger)))"
    own = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(line, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.stdout == ascii(("ein Tuch für Ada", ("ein Tuch für {trigger}",))) + "\n", done.stderr


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = "train: {rnak: 4, steps: -1}\ngate: {flor: 0.5}\npolicy: {hits: many}\n"
    with pytest.raises(SettingError) as caught:
        load_preset(written(tmp_path, text))
    places = ("train.rnak", "train.steps", "gate.flor", "policy.hits")
    assert all(place in str(caught.value) for place in places)


@pytest.mark.parametrize("text", ["train: [", "just a word", "- a\n- list"])
def test_a_file_that_is_no_mapping_is_a_wrong_setting(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingError, match=r"mine\.yaml"):
        load_preset(written(tmp_path, text))


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda k: str(k.__name__))
def test_a_request_refuses_unknown_keys_and_goes_through_json(kind: type[Spec]) -> None:
    asked = kind()
    assert kind.model_validate_json(asked.model_dump_json()) == asked
    assert kind.model_validate(asked.model_dump(mode="json")) == asked
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({"unheard_of": 1})
    for name in kind.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(asked, name, "other")


def test_a_full_request_goes_through_json() -> None:
    asked = requests.EvaluateRequest(drifted=("a", "b"), evaluation=EvaluationSpec(seeds=(3, 4)))
    assert requests.EvaluateRequest.model_validate_json(asked.model_dump_json()) == asked
    asked_too = requests.TrainRequest(demand=("spirals",), train=TrainSpec(targets=("to_q",)))
    assert requests.TrainRequest.model_validate_json(asked_too.model_dump_json()) == asked_too


def test_numbers_as_an_event_template_gives_them_are_taken() -> None:
    asked = requests.RetrainRequest.model_validate({"cause": "drift", "attempt": "2"})
    assert asked.attempt == 2


def test_settings_have_their_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "wrong")
    monkeypatch.setenv("DYEWORKS_DEVICE", "cpu")
    monkeypatch.setenv("DYEWORKS_RENDER_BATCH", "7")
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", "secret-token")
    settings = Settings()
    assert (settings.device, settings.render_batch) == ("cpu", 7)
    assert "secret-token" not in repr(settings)
    assert settings.webhook_token.get_secret_value() == "secret-token"


def test_a_setting_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYEWORKS_RENDER_BATCH", "0")
    with pytest.raises(ValidationError, match="render_batch"):
        Settings()
