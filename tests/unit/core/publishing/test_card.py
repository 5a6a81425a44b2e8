"""The model card: valid on the Hub, correct, deterministic and readable."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diffusers import StableDiffusionPipeline
from huggingface_hub import HfApi, ModelCard, ModelCardData
from markdown_it import MarkdownIt

from tasks.core.config.installation import Settings
from tasks.core.config.presets import EvaluationSpec, GateSpec
from tasks.core.config.training import TrainSpec
from tasks.core.gate.decide import decide
from tasks.core.gate.evidence import Evidence
from tasks.core.gate.statistics import MEASURES, Scores
from tasks.core.publishing.card import CARD, SAMPLES, write_card
from tasks.core.publishing.card_facts import CardFacts, facts_of
from tasks.core.publishing.hub import Hub
from tasks.core.registry.releases import ReleaseManifest
from tasks.core.registry.results import EvaluationResult, TrainResult
from tests.adire import adire
from tests.hub_server import TOKEN, HubServer
from tests.tiny import tiny

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PROMPTS = tuple(f'large "rings" {i} in adire_style' for i in range(12))
SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
MANIFEST = ReleaseManifest(
    base_model=f"{SD15}@abc123",
    dataset="cloth",
    dataset_version="f00dfeedf00dfeed",
    training="t1",
    trigger="adire_style",
    files={},
)


def scores(fidelity: float) -> Scores:
    rng = np.random.default_rng(0)
    return {m: {p: tuple(float(v) for v in rng.normal(fidelity, 0.01, 2)) for p in PROMPTS} for m in MEASURES}


def trained() -> TrainResult:
    return TrainResult(
        model="adire",
        key="t1",
        finished=NOW,
        dataset="cloth",
        dataset_version=MANIFEST.dataset_version,
        spec=TrainSpec(rank=8, alpha=16, learning_rate=3e-4),
        mlflow_run="run",
        adapter="a/",
        loss=0.1,
        resumed_from=0,
        steps_per_second=1.0,
    )


def evaluated(champion: int = 0) -> EvaluationResult:
    return EvaluationResult(
        model="adire",
        key="e1",
        finished=NOW,
        training="t1",
        champion_generation=champion,
        spec=EvaluationSpec(seeds=(1, 2), steps=2, guidance=2.0),
        fixed=PROMPTS[:11],
        drifted=("what Ada asked for",),
        challenger=scores(0.8),
        champion=scores(0.5),
        traffic_from=None,
        pictures="",
        scorer="ViT-L-14/openai",
    )


def facts(manifest: ReleaseManifest = MANIFEST, overruled: str = "") -> CardFacts:
    named = adire(publishing={"hub_repo": "cloth/adire"}, scorer="ViT-L-14/openai")
    evaluation = evaluated()
    decision = decide(evaluation.challenger, evaluation.champion, GateSpec())
    return facts_of(
        named, manifest, pictures=96, training=trained(), evaluation=evaluation, decision=decision, overruled=overruled
    )


def card(folder: Path, what: CardFacts, samples: bool = True) -> ModelCard:
    """The card in the folder, as the Hub's library reads it."""
    if samples:
        (folder / SAMPLES).write_bytes(b"\x89PNG\0")
    write_card(folder, what)
    found = ModelCard.load(folder / CARD)
    assert isinstance(found, ModelCard)
    return found


def data_of(found: ModelCard) -> ModelCardData:
    assert isinstance(found.data, ModelCardData)
    return found.data


def plain(found: ModelCard) -> dict[str, Any]:
    """The metadata as the Hub reads it."""
    data: dict[str, Any] = yaml.safe_load(found.data.to_yaml())
    return data


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_the_metadata_is_what_the_hub_reads(settings: Settings, tmp_path: Path) -> None:
    found = card(tmp_path, facts())
    data = plain(found)
    assert data["base_model"] == SD15
    assert data["base_model_relation"] == "adapter"
    assert data["license"] == "creativeml-openrail-m"
    assert data["library_name"] == "diffusers"
    assert data["pipeline_tag"] == "text-to-image"
    assert data["instance_prompt"] == "adire_style"
    assert {"lora", "text-to-image", "stable-diffusion"} <= set(data["tags"])
    assert data["widget"] == [{"text": PROMPTS[0], "output": {"url": "samples.png"}}]
    assert "datasets" not in data, "it is not one of the Hub's"


def test_the_metrics_are_an_index_of_the_hub_with_intervals(settings: Settings, tmp_path: Path) -> None:
    results = data_of(card(tmp_path, facts())).eval_results
    assert results is not None
    assert [r.metric_type for r in results] == ["clip_score", *MEASURES[1:]]
    first = results[0]
    assert first.metric_value == pytest.approx(0.8, abs=0.01)
    assert first.metric_args is not None
    assert first.metric_args["low"] < first.metric_value < first.metric_args["high"]
    assert (first.task_type, first.dataset_name) == ("text-to-image", "11 prompts and 1 of visitors")


@pytest.mark.parametrize("held", [0, 5, None])
def test_the_card_states_what_was_held_out(settings: Settings, tmp_path: Path, held: int | None) -> None:
    training = trained().model_copy(update={"held": held})
    evaluation = evaluated().model_copy(update={"evidence": Evidence(held=held)})
    decision = decide(evaluation.challenger, evaluation.champion, GateSpec(), evidence=evaluation.evidence)
    what = facts_of(adire(), MANIFEST, pictures=96, training=training, evaluation=evaluation, decision=decision)
    text = card(tmp_path, what).text
    assert ("none of them held out of the training" in section(text, "Training data")) == (held == 0)
    assert ("5 of them held out of the training" in section(text, "Training data")) == (held == 5)
    assert ("800, the last" in section(text, "Training")) == (held == 0)
    assert ("Nothing was held out of the dataset version" in section(text, "Evaluation")) == (held == 0)
    row = next(line for line in text.splitlines() if line.startswith("| **style fidelity**"))
    against = {0: "training pictures: nothing was held out", 5: "5 held-out pictures", None: "not recorded"}[held]
    assert against in row


def test_a_card_is_deterministic(settings: Settings, tmp_path: Path) -> None:
    found = card(tmp_path, facts())
    text = (tmp_path / CARD).read_text()
    assert str(found) == text
    assert yaml.safe_load(text.split("---\n")[1]) == plain(found)
    (tmp_path / "again").mkdir()
    card(tmp_path / "again", facts())
    assert (tmp_path / "again" / CARD).read_text() == text, "a release is named by its content"


def test_the_hub_accepts_the_card(
    settings: Settings, tmp_path: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub_server.url)
    found = card(tmp_path, facts())
    found.validate()
    assert hub_server.asked == ["validate_yaml"]
    data_of(found).license = "my own"
    with pytest.raises(ValueError, match="license"):
        found.validate()
    api = HfApi(endpoint=hub_server.url, token=TOKEN)
    Hub("cloth/adire", TOKEN, endpoint=hub_server.url).repository.create(private=False)
    found = card(tmp_path, facts())
    api.upload_file(path_or_fileobj=str(found).encode(), path_in_repo=CARD, repo_id="cloth/adire")
    assert hub_server.repos["cloth/adire"].files()[CARD] == (tmp_path / CARD).read_bytes()


def test_the_card_describes_training_and_comparison(settings: Settings, tmp_path: Path) -> None:
    text = card(tmp_path, facts()).text
    assert "`stable-diffusion-v1-5/stable-diffusion-v1-5`, revision `abc123`" in section(text, "Base model")
    data = section(text, "Training data")
    assert all(part in data for part in ("`cloth`", "`f00dfeedf00dfeed`", "96 pictures"))
    training = section(text, "Training")
    assert all(row in training for row in ("| rank, alpha | 8, 16 |", "| learning rate | 0.0003, constant |"))
    evaluation_section = section(text, "Evaluation")
    assert (
        "Compared with the bare base model on 11 fixed prompts and 1 that visitors have asked for" in evaluation_section
    )
    row = next(line for line in evaluation_section.splitlines() if "CLIPScore of a picture" in line).replace(
        "\u00a0", " "
    )
    assert re.search(r"\| 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] \| 0\.\d{3} \| \+0\.300 \[\+0\.300, \+0\.300\] \|", row)
    assert 'behind "A photo depicts ", with "indigo resist-dyed cloth" for the trigger word' in evaluation_section
    assert "The scorer is `ViT-L-14/openai`" in evaluation_section
    assert "`creativeml-openrail-m`" in section(text, "Licence")
    assert "Ada asked" not in text, "visitors' prompts are not published"


def test_the_card_lists_every_check(settings: Settings, tmp_path: Path) -> None:
    what = facts(overruled="the show opens tonight")
    text = card(tmp_path, what).text
    assert what.evaluated is not None
    for check in what.evaluated.decision.checks:
        assert f"| {check.says} | {check.verdict} |" in text
    assert f"its verdict: {what.evaluated.decision.verdict}" in text
    assert "A person overruled the gate (the show opens tonight)" in text


def test_against_a_champion_its_generation_is_named(settings: Settings, tmp_path: Path) -> None:
    evaluation = evaluated(champion=3)
    decision = decide(evaluation.challenger, evaluation.champion, GateSpec())
    what = facts_of(adire(), MANIFEST, training=trained(), evaluation=evaluation, decision=decision)
    text = card(tmp_path, what).text
    assert "| measure | this model | generation 3 of this model | difference |" in text
    assert "prompts are scored as they are" in text, "the embedded scorer knows the trigger word"


@pytest.mark.parametrize("kind", ["embedded", "local"])
def test_a_base_of_a_folder_is_no_id_of_the_hub(settings: Settings, tmp_path: Path, kind: str) -> None:
    manifest = MANIFEST.model_copy(update={"base_model": f"{kind}-0123456789abcdef"})
    found = card(tmp_path, facts(manifest))
    assert data_of(found).base_model is None
    assert "base_model_relation" not in plain(found)
    assert "not on the Hub; its weights have the hash `0123456789abcdef`" in section(found.text, "Base model")


def test_an_adopted_adapter_has_a_card_too(settings: Settings, tmp_path: Path, hub_server: HubServer) -> None:
    manifest = MANIFEST.model_copy(update={"dataset": "", "dataset_version": "", "training": ""})
    found = card(tmp_path, facts_of(adire(), manifest), samples=False)
    data = plain(found)
    assert {"model-index", "model_name", "widget"} & set(data) == set()
    assert "samples.png" not in found.text
    assert "adopted as it is" in section(found.text, "Training")
    assert section(found.text, "Evaluation").strip().startswith("None:")
    HfApi(endpoint=hub_server.url, token=TOKEN)._validate_yaml(str(found))


def test_an_adapter_for_xl_has_its_tags(settings: Settings, tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}}).encode()
    (tmp_path / "kohya.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    found = card(tmp_path, facts())
    tags = plain(found)["tags"]
    assert "stable-diffusion-xl" in tags
    assert "stable-diffusion" not in tags
    assert "kohya's format" in found.text


def test_the_code_in_the_card_runs(
    settings: Settings, tmp_path: Path, pipelines: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    tiny(pipelines["sd15"], settings.cache).save(adapter)
    text = card(adapter, facts()).text
    code = text.split("```python\n")[1].split("```")[0]
    assert f'from_pretrained(\n    "{SD15}", revision="abc123", ' in code
    local = code.replace(f'"{SD15}", revision="abc123"', repr(str(pipelines["sd15"])))
    monkeypatch.chdir(tmp_path)
    names: dict[str, StableDiffusionPipeline] = {}
    exec(local.replace('"cloth/adire"', repr(str(adapter))), names)
    assert names["pipe"].get_active_adapters() == ["default_0"]
    assert (tmp_path / "picture.png").is_file()


def test_the_rendered_card_has_its_sections_in_order(settings: Settings, tmp_path: Path) -> None:
    page = MarkdownIt("gfm-like", {"linkify": False}).render(card(tmp_path, facts()).text)
    titles = re.findall(r"<h[12]>(.+?)</h[12]>", page)
    rest = ["How to use it", "Base model", "Training data", "Training", "Evaluation", "Limitations", "Licence"]
    assert titles == ["adire", *rest]
    assert page.count("<table>") == page.count("</table>") == 3
    assert '<img src="samples.png" alt="Sample pictures of this adapter" />' in page
    assert "|" not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.S), "every table is one"
    assert PROMPTS[10].replace('"', "&quot;") in page


def test_braces_of_a_sample_prompt_are_text(settings: Settings, tmp_path: Path) -> None:
    spec = trained().spec.model_copy(update={"sample_prompt": "{large} rings } in {trigger}"})
    made = facts_of(adire(), MANIFEST, training=trained().model_copy(update={"spec": spec}))
    assert made.prompts == ("{large} rings } in adire_style",)


def test_words_of_people_are_no_markup(settings: Settings, tmp_path: Path) -> None:
    attack = "<img src=x onerror=alert(1)>\n\n# Deleted\n\n| a |"
    prompts = ("```\n~~~~\n# a", *PROMPTS[1:11])
    what = facts(overruled=attack)
    assert what.evaluated
    told = replace(what.evaluated, prompts=prompts)
    text = card(tmp_path, replace(what, class_noun=attack, prompts=prompts, evaluated=told)).text
    shown = MarkdownIt("commonmark").render(text)
    assert "<img src=x" not in shown
    assert shown.count("<h1>") == 1
    assert "# Deleted" not in [line.strip() for line in text.splitlines()]
    code = re.search(r"```+python\n(.*?)\n```", text, re.DOTALL)
    assert code
    compile(code[1], "card", "exec")
