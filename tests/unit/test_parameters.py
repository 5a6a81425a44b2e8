"""The JSON schema of train-lora's parameters: Prefect builds its form from it, and validates runs by it."""

from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows.train_lora import train_lora
from tasks.core.config.base import Spec
from tasks.core.config.training import ComputeSpec, PriorSpec, TrainSpec, ValidationSpec

SCHEMA: dict[str, Any] = train_lora.parameters.model_dump(mode="json")
NESTED: dict[str, type[Spec]] = {"prior": PriorSpec, "validation": ValidationSpec, "compute": ComputeSpec}


def ranges(metadata: list[object]) -> dict[str, object]:
    """The constraints of a field in a schema."""
    schema: dict[str, object] = {}
    for limit in metadata:
        match limit:
            case Ge():
                schema["minimum"] = limit.ge
            case Gt():
                schema["exclusiveMinimum"] = limit.gt
            case Le():
                schema["maximum"] = limit.le
            case Lt():
                schema["exclusiveMaximum"] = limit.lt
            case MultipleOf():
                schema["multipleOf"] = limit.multiple_of
    return schema


@pytest.mark.parametrize("kind", [TrainSpec, *NESTED.values()])
def test_every_field_is_there_with_its_description_and_range(kind: type[Spec]) -> None:
    shown = SCHEMA["definitions"][kind.__name__]
    assert shown["additionalProperties"] is False
    assert set(shown["properties"]) == set(kind.model_fields)
    for name, field in kind.model_fields.items():
        schema = shown["properties"][name]
        if kind is TrainSpec and name in NESTED:
            assert schema["$ref"] == f"#/definitions/{NESTED[name].__name__}"
            assert SCHEMA["definitions"][NESTED[name].__name__]["description"]
            continue
        assert field.description
        assert schema["description"] == field.description
        assert ranges(field.metadata).items() <= schema.items()
        assert schema["type"] not in {"integer", "number"} or {"minimum", "exclusiveMinimum"} & set(schema), name
        assert schema["type"] != "string" or {"enum", "pattern"} & set(schema) or name == "sample_prompt", name


def test_the_form_reaches_every_nested_specification() -> None:
    nested = {name for name, schema in SCHEMA["definitions"]["TrainSpec"]["properties"].items() if "$ref" in schema}
    assert nested == set(NESTED)
    choices = SCHEMA["definitions"]["TrainRequest"]["properties"]["train"]["anyOf"]
    assert {"$ref": "#/definitions/TrainSpec"} in choices


@pytest.mark.parametrize(
    ("train", "fault"),
    [
        ({"stpes": 5}, "stpes"),
        ({"prior": {"wieght": 1}}, "wieght"),
        ({"compute": {"processes": "two"}}, "two"),
        ({"compute": {"processes": 0}}, "0"),
        ({"validation": {"every": 2.5}}, "2.5"),
        ({"prior": {"prompts": "dots"}}, "dots"),
        ({"resolution": 100}, "100"),
        ({"schedule": "piecewise"}, "piecewise"),
        ({"precision": "fp8"}, "fp8"),
    ],
)
def test_misspelt_fields_and_wrong_types_are_rejected(train: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        validate({"spec": {"train": train}}, SCHEMA, raise_on_error=True)


def test_all_fields_of_a_specification_are_accepted() -> None:
    spec = {"train": TrainSpec(prior=PriorSpec(prompts=("dots",))).model_dump(mode="json"), "demand": ["red"]}
    assert validate({"spec": spec}, SCHEMA) == []
