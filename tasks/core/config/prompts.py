"""Prompt sets: the prompts that models are compared on.

A set lies in `presets/prompts/<version>.yaml` and is stored whole with every result. A changed set needs a new
name: figures over different prompts cannot be compared.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from tasks.core.config.base import Spec, explain, read_yaml
from tasks.core.errors import SettingError

FOLDER = Path(__file__).parent / "presets" / "prompts"
FULL = "adire-1"  # the set of the presets for real base models
KINDS = {"trigger": "trigger", "class_noun": "class_noun", "general": ""}  # the placeholder of each kind


class PromptSet(Spec):
    """A versioned set: prompts of the style, of its class of things without the style, and of anything else."""

    version: str = Field("", description="Its name; that of its file where it has one.")
    trigger: tuple[str, ...] = Field(min_length=1, description="With {trigger}, which stands for the trigger word.")
    class_noun: tuple[str, ...] = Field((), description="With {class_noun}, which stands for the class: no style.")
    general: tuple[str, ...] = Field((), description="Of other things, by which forgetting is measured.")
    groups: tuple[str, ...] = Field((), description="Words; a prompt with one is of its group, for evenness.")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if faults := [*self._misplaced(), *self._repeated(), *self._empty_groups()]:
            raise ValueError("; ".join(faults))
        return self

    def filled(self, kind: str, word: str = "") -> tuple[str, ...]:
        """The prompts of a kind with `word` for their placeholder."""
        return tuple(prompt.format(**{KINDS[kind]: word}) for prompt in getattr(self, kind))

    def grouped(self, prompts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Filled prompts by the words of the groups; a prompt with two of the words is in both."""
        return {word: tuple(p for p in prompts if _has(p, word)) for word in self.groups}

    def _misplaced(self) -> Iterator[str]:
        for kind, placeholder in KINDS.items():
            wanted = [placeholder] if placeholder else []
            for prompt in getattr(self, kind):
                if not prompt.strip() or _placeholders(prompt) != wanted:
                    needs = f"{{{placeholder}}} once" if placeholder else "no placeholder"
                    yield f"{kind}: {prompt!r} needs {needs}, and no other braces"

    def _repeated(self) -> Iterator[str]:
        everything = [" ".join(p.casefold().split()) for kind in KINDS for p in getattr(self, kind)]
        yield from (f"{prompt!r} is there {n} times" for prompt, n in Counter(everything).items() if n > 1)
        yield from (f"the group {word!r} is there {n} times" for word, n in Counter(self.groups).items() if n > 1)

    def _empty_groups(self) -> Iterator[str]:
        for word, prompts in self.grouped(self.trigger).items():
            if not prompts:
                yield f"groups: no trigger prompt has the word {word!r}"


def load_prompts(name: str) -> PromptSet:
    """The set of this name, or of a .yaml file; raises SettingError with every fault of it."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise SettingError("prompts", f"no prompt set {name!r}; take one of {known}, or the path of a .yaml file")
    try:
        return PromptSet.model_validate({"version": path.stem} | read_yaml(path))
    except ValidationError as error:
        raise SettingError(str(path), explain(error, PromptSet)) from error


def _resolve(value: object) -> object:
    """Resolve a name to its set; a list, the format before there were sets, is a set of trigger prompts."""
    if isinstance(value, list | tuple):
        return {"trigger": value}
    try:
        return load_prompts(value) if isinstance(value, str) else value
    except SettingError as error:
        raise ValueError(str(error)) from error


Prompts = Annotated[PromptSet, BeforeValidator(_resolve, json_schema_input_type=PromptSet | str)]


def _placeholders(prompt: str) -> list[str]:
    try:
        return [name for _, name, _, _ in Formatter().parse(prompt) if name is not None]
    except ValueError:  # a single brace
        return ["{"]


def _has(prompt: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", prompt, re.IGNORECASE) is not None
