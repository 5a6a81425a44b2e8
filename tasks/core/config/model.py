"""The configuration of a model: one YAML file, applied into the store with `dyeworks models apply FILE`."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from tasks.core.config.base import Spec, explain, read_yaml
from tasks.core.config.captioning import CaptioningSpec
from tasks.core.config.presets import Preset, load_preset, preset_values
from tasks.core.errors import SettingError

EMBEDDED = "embedded"
LARGEST = 2048  # pixels of a side
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]


def _line(text: str) -> str:
    """Require one line of text: it stands in prompts, in pages and in the model card."""
    if not text.strip() or not text.isprintable() or "`" in text:
        raise ValueError("must be one line that is not blank, without control characters and backticks")
    return text


Line = Annotated[str, AfterValidator(_line)]


def parse_size(text: str) -> tuple[int, int] | None:
    """Width and height of WxH; None if it is something else."""
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text, re.ASCII)
    return (int(found[1]), int(found[2])) if found else None


def _size(text: str) -> str:
    """Require WxH in multiples of 8, as latents are an eighth of a picture."""
    sides = parse_size(text)
    if not sides or any(side % 8 or not 8 <= side <= LARGEST for side in sides):
        raise ValueError(f"must be WxH in pixels, multiples of 8 up to {LARGEST}")
    return text


Size = Annotated[str, AfterValidator(_size)]


class ServingSpec(Spec):
    """How the storefront renders."""

    steps: int = Field(12, ge=1, le=100, description="Denoising steps of a picture.")
    guidance: float = Field(2.0, ge=1, description="Guidance scale of a picture.")
    sizes: tuple[Size, ...] = Field((), description="Sizes (WxH) that may be asked for beside the base's own.")
    most_steps: int = Field(100, ge=1, le=100, description="Denoising steps that may be asked for, at most.")
    page: bool = Field(True, description="Whether the page offers the model to visitors without an API key.")
    api: Literal["open", "key"] = Field("open", description="Whether the API serves it to all, or to API keys only.")
    safety: bool | None = Field(
        None,
        description="Whether pictures pass the safety checker before they are shown; "
        "left out, those of every base but the embedded one do.",
    )


class PublishingSpec(Spec):
    """Where releases are published to, beside the store."""

    store: str = Field(
        "", description="Another store (folder or s3://…) for services that must not reach the first; empty: none."
    )
    hub_repo: str = Field("", description="Hugging Face Hub model, OWNER/NAME; empty: none.")
    hub_private: bool = Field(False, description="Whether that model is private when it is created.")


class ModelConfig(Spec):
    """All that belongs to one model. `preset` and `overrides` of the file are resolved into whole specifications."""

    name: Name = Field(
        description="Name in the store, requests, events, logs, metrics: lower-case letters, digits and hyphens."
    )
    datasets: tuple[Name, ...] = Field(
        (),
        description="Datasets it is trained on, uploaded to uploads/<dataset>/ in the store; the first is meant where "
        "none is named. Empty: one of its own name.",
    )
    base: str = Field(
        EMBEDDED,
        description="Base model, Stable Diffusion 1, 2 or XL: embedded, a diffusers folder, or a Hub id, "
        "optionally with @revision.",
    )
    scorer: str = Field(
        EMBEDDED,
        description="Scorer and prompt encoder: embedded, open_clip's MODEL/TAG, hf-hub:NAME or local-dir:PATH.",
    )
    trigger: Line = Field(description="Trigger word of the style.")
    class_noun: Line = Field(
        description="Stands for the trigger where the scorer is a public CLIP, which does not know it."
    )
    preset: Preset = Field(
        default_factory=lambda: load_preset(EMBEDDED),
        description="Specifications: embedded, founding, fast-gpu, sdxl, the path of a YAML file (relative to this "
        "one), or all of them; `overrides` names what is to differ, in the same sections.",
    )
    serving: ServingSpec = Field(ServingSpec(), description="How the storefront renders.")
    publishing: PublishingSpec = Field(PublishingSpec(), description="Where releases are published to.")
    captioning: CaptioningSpec | None = Field(
        None, description="A vision model that describes pictures without a caption; left out, none does."
    )
    licence: str = Field(
        "creativeml-openrail-m", pattern=r"^[\w.+-]+$", description="Licence of the adapters, as the Hub names it."
    )
    notify_block: str = Field(
        "", description="Prefect notification block, TYPE/NAME, for promotions, refusals, roll-backs and withdrawals."
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: object) -> object:
        """Name the dataset of a model that names none, and put `overrides` beside the preset that they change."""
        if not isinstance(values, dict):
            return values
        values = {"preset": EMBEDDED, **values}
        if "name" in values and not values.get("datasets"):
            values["datasets"] = (values["name"],)
        return values | {"preset": (values["preset"], values.pop("overrides", None) or {})}

    @field_validator("preset", mode="before")
    @classmethod
    def _merge(cls, value: tuple[object, object]) -> object:
        """Merge the overrides into the preset, which is named or given whole."""
        preset, overrides = value
        if isinstance(preset, Preset):
            preset = preset.model_dump()
        try:
            preset = preset_values(preset) if isinstance(preset, str) else preset
        except SettingError as error:
            raise ValueError(str(error).removeprefix("preset: ")) from error
        return _merged(preset, overrides) if isinstance(preset, dict) else preset

    @field_validator("datasets")
    @classmethod
    def _different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a dataset is there twice")
        return names

    @property
    def dataset(self) -> str:
        """The dataset that is trained on where a request names none."""
        return self.datasets[0]

    @property
    def checks_safety(self) -> bool:
        """Whether pictures pass the safety checker before they are shown."""
        return self.base != EMBEDDED if self.serving.safety is None else self.serving.safety


def read_model(path: Path) -> ModelConfig:
    """The configuration in a YAML file; a preset's path is relative to that file.

    Raises:
        SettingError: with every fault of the file, a misspelt key with the nearest right one.
    """
    values = read_yaml(path)
    preset = values.get("preset")
    if isinstance(preset, str) and preset.endswith((".yaml", ".yml")):
        values["preset"] = str(path.parent / preset)
    try:
        return ModelConfig.model_validate(values)
    except ValidationError as error:
        raise SettingError(str(path), explain(error, ModelConfig)) from error


def _merged(below: object, above: object) -> object:
    """Mappings merged key by key; anything else is replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: _merged(below[key], value) if key in below else value for key, value in above.items()}
