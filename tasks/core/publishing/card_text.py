"""The text of a model card, in Markdown."""

from collections.abc import Iterator

from tasks.core.config.training import TrainSpec
from tasks.core.gate.evidence import compared_with
from tasks.core.gate.statistics import LESS_IS_BETTER, Measure
from tasks.core.models.clip import SCALE
from tasks.core.models.identity import WEIGHTS
from tasks.core.publishing.facts import CardFacts, Evaluated, Figure

NAMES: dict[Measure, tuple[str, str]] = {  # in words: the name, and what it is
    "prompt_fidelity": ("prompt fidelity", "CLIPScore of a picture with its prompt"),
    "style_fidelity": ("style fidelity", "mean cosine to pictures of the style"),
    "diversity": ("diversity", "mean cosine distance between pictures of one prompt"),
    "forgetting": ("forgetting", "CLIPScore lost against the bare base on prompts without the trigger word"),
    "near_copies": ("nearness to training pictures", "mean cosine to the nearest one"),
    "render_seconds": ("seconds a picture", "on the machine of the evaluation, warm"),
}
NARROW = "\u00a0"  # keeps an interval on one line
BASE_FOLDER, LORA_FOLDER = "path/to/the/base/model", "path/to/this/folder"


def body(facts: CardFacts, has: frozenset[str]) -> str:
    """Everything below the metadata; `has` are the names of the release's files."""
    parts = [
        _opening(facts),
        *(["![Sample pictures of this adapter](samples.png)"] if "samples.png" in has else []),
        _use(facts, "kohya.safetensors" in has),
        _base(facts),
        _data(facts),
        _training(facts.trained, facts.held) if facts.trained else _adopted(),
        _evaluation(facts.evaluated, facts) if facts.evaluated else _unevaluated(),
        _limits(facts),
        _licence(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _opening(facts: CardFacts) -> str:
    base = (
        f"[{facts.base}](https://huggingface.co/{facts.base})"
        if facts.base
        else "a Stable Diffusion model that is not on the Hub"
    )
    return (
        f"# {facts.model}\n\nA LoRA adapter for {base}. It draws a style that goes by the trigger word "
        f"**`{facts.trigger}`**: {facts.class_noun}. Made, evaluated and published by dyeworks."
    )


def _use(facts: CardFacts, kohya: bool) -> str:
    drawn = facts.evaluated
    options = f", num_inference_steps={drawn.steps}, guidance_scale={drawn.guidance:g}" if drawn else ""
    revision = f'revision="{facts.base_revision}", ' if facts.base_revision else ""
    base = f'"{facts.base or BASE_FOLDER}", {revision}dtype=dtype'
    lines = [
        "import torch",
        "from diffusers import DDIMScheduler, DiffusionPipeline",
        "",
        'device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)',
        "pipe = DiffusionPipeline.from_pretrained(",
        f"    {base}",
        ").to(device)",
        "pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)",
        f'pipe.load_lora_weights("{facts.repo or LORA_FOLDER}", weight_name="{WEIGHTS}")',
        f'prompt = "{_quoted(facts.prompts[0])}"',
        f'pipe(prompt{options}).images[0].save("picture.png")',
    ]
    told = [
        f"## How to use it\n\nWrite the trigger word `{facts.trigger}` into the prompt. With diffusers 0.42:",
        _fenced("python", lines),
    ]
    if kohya:
        told.append("`kohya.safetensors` is the same adapter for programs that read kohya's format.")
    if facts.repo:
        told.append(
            'Every generation that was published has a tag: add `revision="generation-3"` to `load_lora_weights` '
            "for the third. `manifest.json` holds the sha256 of every file."
        )
    return "\n\n".join(told)


def _base(facts: CardFacts) -> str:
    if facts.base:
        revision = f", revision `{facts.base_revision}`" if facts.base_revision else ", whichever revision was newest"
        return (
            f"## Base model\n\n`{facts.base}`{revision}. Only the UNet was adapted; text encoders are the base's own."
        )
    kind, _, sha = facts.base_name.partition("-")
    where = "the small base model in dyeworks' own repository" if kind == "embedded" else "a model in a local folder"
    return (
        f"## Base model\n\n{where[0].upper()}{where[1:]}, which is not on the Hub; its weights have the hash `{sha}`. "
        "The adapter goes with it alone."
    )


def _data(facts: CardFacts) -> str:
    if not facts.dataset_version:
        return "## Training data\n\nNot known to dyeworks: the adapter was made elsewhere."
    held = "" if facts.held is None else f", {facts.held or 'none'} of them held out of the training"
    count = f" {facts.pictures} pictures{held}." if facts.pictures else ""
    return (
        f"## Training data\n\nDataset `{facts.dataset}`, version `{facts.dataset_version}`, which is the hash of its "
        f"content.{count} It is not on the Hub."
    )


def _adopted() -> str:
    return "## Training\n\nNot known to dyeworks: the adapter was made elsewhere and adopted as it is."


def _training(spec: TrainSpec, held: int | None) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in _settings(spec, held))
    return f"## Training\n\n| setting | value |\n| --- | --- |\n{rows}"


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


def _unevaluated() -> str:
    return "## Evaluation\n\nNone: it was adopted as it is, and nothing is known of how well it draws."


def _evaluation(evaluated: Evaluated, facts: CardFacts) -> str:
    against = f"generation {evaluated.champion} of this model" if evaluated.champion else "the bare base model"
    more = f" and {evaluated.drifted} that visitors have asked for" if evaluated.drifted else ""
    opening = (
        f"Compared with {against} on {len(evaluated.prompts)} fixed prompts{more}, {evaluated.seeds} pictures each, "
        f"both with the same seeds: DDIM, {evaluated.steps} steps, guidance {evaluated.guidance:g}. Figures are means "
        f"over the prompts with their {100 * evaluated.confidence:g} % bootstrap intervals; differences are paired by "
        "prompt."
    )
    rows = "\n".join(_row(figure, evaluated.held) for figure in evaluated.figures)
    table = f"| measure | this model | {against} | difference |\n| --- | --- | --- | --- |\n{rows}"
    notes = evaluated.decision.notes
    parts = ["## Evaluation", opening, table, *notes, _scoring(evaluated, facts), _gate(evaluated), _prompts(evaluated)]
    return "\n\n".join(parts)


def _row(figure: Figure, held: int | None) -> str:
    name, meaning = NAMES[figure.measure]
    better = "lower" if figure.measure in LESS_IS_BETTER else "higher"
    compared = "" if figure.compared is None else f"{figure.compared:.3f}"
    difference = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*figure.difference) if figure.difference else ""
    against = f" ({compared_with(held)})" if figure.measure == "style_fidelity" else ""
    told = f"**{name}**: {meaning}{against}; {better} is better"
    cells = (f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]", compared, difference)
    return f"| {told} | {' | '.join(cell.replace(' ', NARROW) for cell in cells)} |"


def _scoring(evaluated: Evaluated, facts: CardFacts) -> str:
    how = f'the prompts are scored behind "{evaluated.prefix}", with "{facts.class_noun}" for the trigger word'
    public = how if evaluated.prefix else "the scorer knows the trigger word, so the prompts are scored as they are"
    return (
        f"The scorer is `{evaluated.scorer}`; {public}. CLIPScore is {SCALE:g} * max(cos, 0) "
        "([Hessel et al. 2021](https://arxiv.org/abs/2104.08718)). Scores by another scorer cannot be compared with "
        "these."
    )


def _gate(evaluated: Evaluated) -> str:
    rows = "\n".join(f"| {check.says} | {check.verdict} |" for check in evaluated.decision.checks)
    said = f"What the gate asked for (its verdict: {evaluated.decision.verdict}):"
    if evaluated.overruled:
        said = f"A person overruled the gate ({evaluated.overruled}). {said}"
    return f"{said}\n\n| finding | verdict |\n| --- | --- |\n{rows}"


def _prompts(evaluated: Evaluated) -> str:
    return f"<details>\n<summary>The fixed prompts</summary>\n\n{_fenced('text', evaluated.prompts)}\n\n</details>"


def _limits(facts: CardFacts) -> str:
    lines = [
        f"It draws the style for `{facts.trigger}` on its own base model; nothing else was tried.",
        "What the base model cannot draw, and what it has learnt of prejudice, it passes on.",
        "Pictures can come near to those it was trained on; look at them before you publish them.",
    ]
    if facts.evaluated:
        lines.insert(1, "It was measured on the prompts above alone. A CLIP sees less than people do.")
    if facts.base_name.startswith("embedded"):
        lines.append("The base is a small model of 64 x 64 pixels that knows cloth alone: for demonstrations.")
    return "## Limitations\n\n" + "\n".join(f"- {line}" for line in lines)


def _licence(facts: CardFacts) -> str:
    return (
        f"## Licence\n\nThe adapter is under `{facts.licence}`. The base model has a licence of its own, which holds "
        "for it and, where it says so, for what is made of it."
    )


def _fenced(language: str, lines: "list[str] | tuple[str, ...]") -> str:
    text = "\n".join(lines)
    fence = "```" if "```" not in text else "~~~~"
    return f"{fence}{language}\n{text}\n{fence}"


def _quoted(text: str) -> str:
    """As it stands between the quotes of a Python string."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
