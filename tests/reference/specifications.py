"""A model's file, its specifications section by section, the presets, and the prompt sets."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from tasks.core.config.captioning import CaptioningSpec
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import PRESETS, Preset, load_preset
from tasks.core.config.prompts import FOLDER, KINDS, load_prompts
from tests.reference.tables import code, field_rows, is_nested, meaning, shown, table

FIELDS = ("field", "default", "takes", "meaning")


def models() -> list[str]:
    """The fields of a model's file but those of its specifications, and of its section for captions."""
    return [
        "## A model's file",
        "",
        "One YAML file a model, [applied](#dyeworks-models-apply) into the store. A misspelt key is refused with the",
        "nearest right one; all faults of a file are reported at once.",
        "",
        *table(FIELDS, _model_rows()),
        "## Captioning",
        "",
        "The section `captioning` of a model's file: [captions made by a model](data.md#captions-made-by-a-model).",
        "It is left out by default, and then no picture is sent anywhere.",
        "",
        *table(FIELDS, field_rows(CaptioningSpec)),
    ]


def _model_rows() -> Iterator[list[str]]:
    yield from field_rows(ModelConfig, but=("preset",))
    preset = ModelConfig.model_fields["preset"]
    yield ["`preset`", "`embedded`", "a preset", meaning(ModelConfig, "preset", preset)]
    yield [
        "`overrides`",
        "",
        "a mapping",
        "Fields of [specifications](#specifications) that differ from the preset.",
    ]


def specifications() -> list[str]:
    """Each section of a preset with its fields, then what the presets say, then the prompt sets."""
    sections = [line for name in Preset.model_fields for line in _section(name)]
    return [
        "## Specifications",
        "",
        "The sections of a preset, and of `overrides` in a model's file. A field that a preset does not name has its",
        "default.",
        "",
        *sections,
        "### Presets",
        "",
        "Where a preset differs from the defaults:",
        "",
        *table(("field", "default", *names()), preset_rows()),
        "### Prompt sets",
        "",
        *table(("set", *KINDS, "groups"), _prompt_rows()),
    ]


def names() -> list[str]:
    """The presets, by name."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_rows() -> Iterator[list[str]]:
    """Each field in which a preset differs from the default, with the value of each that does."""
    values = {name: dict(_values(load_preset(name))) for name in names()}
    for field, usual in _values(Preset()):
        differing = [shown(found[field]) if found[field] != usual else "" for found in values.values()]
        if any(differing):
            yield [code(field), shown(usual), *differing]


def _section(name: str) -> list[str]:
    field = Preset.model_fields[name]
    assert isinstance(field.annotation, type)
    return [f"### {name}", "", meaning(Preset, name, field), "", *table(FIELDS, field_rows(field.annotation))]


def _values(spec: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if is_nested(field.annotation):
            yield from _values(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _prompt_rows() -> Iterator[list[str]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        found = load_prompts(path.stem)
        counts = [f"{len(getattr(found, kind))} prompts" for kind in KINDS]
        yield [code(path.stem), *counts, ", ".join(found.groups)]
