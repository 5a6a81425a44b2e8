"""The model card: README.md of a release, by the Hub's rules, and deterministic."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from tasks.core.config.training import TrainSpec
from tasks.core.gate.evidence import compared_with
from tasks.core.gate.statistics import LESS_IS_BETTER, Measure
from tasks.core.models.clip import SCALE
from tasks.core.models.identity import WEIGHTS
from tasks.core.publishing.card_facts import CardFacts, Evaluated, Figure
from tasks.core.reporting.rendering import render_template

CARD, SAMPLES, KOHYA = "README.md", "samples.png", "kohya.safetensors"
XL = "stable-diffusion-xl"
NAMES: dict[Measure, tuple[str, str]] = {  # name and description
    "prompt_fidelity": ("prompt fidelity", "CLIPScore of a picture with its prompt"),
    "style_fidelity": ("style fidelity", "mean cosine to pictures of the style"),
    "diversity": ("diversity", "mean cosine distance between pictures of one prompt"),
    "forgetting": ("forgetting", "CLIPScore lost against the bare base on prompts without the trigger word"),
    "near_copies": ("nearness to training pictures", "mean cosine to the nearest one"),
    "render_seconds": ("seconds a picture", "on the machine of the evaluation, warm"),
}


def write_card(folder: Path, facts: CardFacts) -> None:
    """Write README.md into a folder that becomes a release; samples.png is shown if present."""
    has = {path.name for path in folder.iterdir()}
    front = _front(facts, SAMPLES in has, _is_xl(folder / KOHYA))
    text = f"---\n{front}\n---\n\n{_body(facts, samples=SAMPLES in has, kohya=KOHYA in has)}"
    (folder / CARD).write_text(text, encoding="utf-8", newline="\n")


def _body(facts: CardFacts, *, samples: bool, kohya: bool) -> str:
    """The text below the metadata, in Markdown."""
    evaluated = facts.evaluated
    return render_template(
        "card.md",
        facts=facts,
        evaluated=evaluated,
        samples=samples,
        kohya=kohya,
        weights=WEIGHTS,
        scale=SCALE,
        settings=dict(_settings(facts.trained, facts.held)) if facts.trained else {},
        figures=[_row(figure, evaluated.held) for figure in evaluated.figures] if evaluated else [],
    )


def _front(facts: CardFacts, samples: bool, xl: bool) -> str:
    """The metadata, in YAML."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415  lazy: only writing a card needs it

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
    """Whether the adapter's metadata names Stable Diffusion XL."""
    if not kohya.is_file():
        return False
    with safe_open(kohya, framework="numpy") as file:
        metadata = file.metadata() or {}
    return str(metadata.get("modelspec.architecture", "")).startswith(XL)


def _settings(spec: TrainSpec, held: int | None) -> Iterator[tuple[str, str]]:
    best = ", the best by validation loss" if spec.validation.every and held != 0 else ", the last"
    yield "steps", f"{spec.steps}{best}"
    yield "pictures a step", str(spec.effective)
    yield "resolution", f"{spec.resolution} pixels" + (", by aspect ratio" if spec.buckets else ", square")
    yield "rank, alpha", f"{spec.rank}, {spec.alpha:g}" + ", rsLoRA" * spec.rslora + ", DoRA" * spec.dora
    warm = f", {spec.warmup} steps of warm-up" if spec.warmup else ""
    yield "learning rate", f"{spec.learning_rate:g}, {spec.schedule.replace('_', ' ')}{warm}"
    yield "optimiser", spec.optimiser.replace("adamw", "AdamW").replace("_8bit", ", 8 bits")
    yield "precision", spec.precision
    yield "modules", ", ".join(f"`{name}`" for name in spec.targets)
    if spec.prior.prompts:
        yield "prior preservation", f"{spec.prior.pictures} pictures by the bare base, weight {spec.prior.weight:g}"
    for name in ("dropout", "min_snr_gamma", "noise_offset"):
        if value := getattr(spec, name):
            yield name.replace("_", " "), f"{value:g}"
    yield "seed", str(spec.seed)


def _row(figure: Figure, held: int | None) -> list[str]:
    """The cells of a measure: description, the model's figure, the other's, the difference."""
    name, meaning = NAMES[figure.measure]
    better = "lower" if figure.measure in LESS_IS_BETTER else "higher"
    compared = "" if figure.compared is None else f"{figure.compared:.3f}"
    difference = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*figure.difference) if figure.difference else ""
    against = f" ({compared_with(held)})" if figure.measure == "style_fidelity" else ""
    description = f"**{name}**: {meaning}{against}; {better} is better"
    cells = (f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]", compared, difference)
    return [description, *(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in cells)]  # no line break in an interval
