"""The model card: README.md of a release, by the Hub's rules, and the same for the same release."""

from pathlib import Path
from typing import Any

from safetensors import safe_open

from tasks.core.publishing.card_text import NAMES, body
from tasks.core.publishing.facts import CardFacts, Evaluated, facts_of

__all__ = ["CARD", "SAMPLES", "CardFacts", "facts_of", "write_card"]

CARD, SAMPLES, KOHYA = "README.md", "samples.png", "kohya.safetensors"
XL = "stable-diffusion-xl"


def write_card(folder: Path, facts: CardFacts) -> None:
    """Write README.md into a folder that becomes a release; samples.png, where there is one, is shown."""
    has = frozenset(path.name for path in folder.iterdir())
    front = _front(facts, SAMPLES in has, _is_xl(folder / KOHYA))
    (folder / CARD).write_text(f"---\n{front}\n---\n\n{body(facts, has)}", encoding="utf-8", newline="\n")


def _front(facts: CardFacts, samples: bool, xl: bool) -> str:
    """The metadata, in YAML."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415  late: only who writes a card needs it

    more: dict[str, Any] = {"instance_prompt": facts.trigger}
    if facts.base:
        more["base_model_relation"] = "adapter"
    if samples:
        more["widget"] = [{"text": facts.prompts[0], "output": {"url": SAMPLES}}]
    data = ModelCardData(
        base_model=facts.base or None,
        license=facts.licence,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["lora", "text-to-image", "diffusers", "diffusers-training", XL if xl else "stable-diffusion", "dyeworks"],
        model_name=facts.model,
        eval_results=_results(facts.evaluated) if facts.evaluated else None,
        **more,
    )
    if not facts.evaluated:
        data.model_name = None  # it belongs to the results
    return data.to_yaml()


def _results(evaluated: Evaluated) -> "list[Any]":
    """The figures as the Hub's model-index has them."""
    from huggingface_hub import EvalResult  # noqa: PLC0415

    prompts = f"{len(evaluated.prompts)} prompts" + (f" and {evaluated.drifted} of visitors" * bool(evaluated.drifted))
    return [
        EvalResult(
            task_type="text-to-image",
            dataset_type="prompts",
            dataset_name=prompts,
            metric_type="clip_score" if figure.measure == "prompt_fidelity" else figure.measure,
            metric_name=NAMES[figure.measure][0],
            metric_value=round(figure.value, 4),
            metric_args={
                "low": round(figure.low, 4),
                "high": round(figure.high, 4),
                "confidence": evaluated.confidence,
                "scorer": evaluated.scorer,
            },
        )
        for figure in evaluated.figures
    ]


def _is_xl(kohya: Path) -> bool:
    """Whether the adapter says of itself that it is for Stable Diffusion XL."""
    if not kohya.is_file():
        return False
    with safe_open(kohya, framework="numpy") as file:
        metadata = file.metadata() or {}
    return str(metadata.get("modelspec.architecture", "")).startswith(XL)
