"""The deployments of prefect.yaml with the parameters of each, the automations, and the events."""

import importlib
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from deployments.bootstrap import BootstrapSettings
from deployments.watch import automations
from tasks.core.config.installation import ROOT
from tasks.core.events import PAYLOADS, Champion, Payload
from tests.reference.tables import code, default, field_rows, meaning, table, takes

Deployment = dict[str, Any]


def declared() -> list[Deployment]:
    """The deployments of prefect.yaml."""
    found: list[Deployment] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return found


def deployments() -> list[str]:
    """Each deployment: pool, schedule, triggers, parameters."""
    return [
        "## Deployments",
        "",
        "Each takes one parameter, `spec`, a mapping of these fields, all of which have a default; unknown keys and",
        "wrong types are refused before anything starts:",
        "",
        '    prefect deployment run train-lora/train-lora --params \'{"spec": {"train": {"steps": 200}}}\'',
        "",
        *(line for deployment in declared() for line in _deployment(deployment)),
        "### Automations",
        "",
        "`dyeworks bootstrap` creates these beside the triggers above:",
        "",
        *(f"- {found.name.removeprefix('dyeworks: ')}, after {_wait(found.trigger)}" for found in automations()),
        "",
    ]


def request(deployment: Deployment) -> type[BaseModel]:
    """The class of a deployment's parameters."""
    file, _, name = deployment["entrypoint"].partition(":")
    flow = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)
    found: type[BaseModel] = flow.fn.__annotations__["spec"]
    return found


def _deployment(deployment: Deployment) -> list[str]:
    crons = [schedule["cron"] for schedule in deployment.get("schedules", [])]
    facts = [f"Work pool `{deployment['work_pool']['name']}`", *map(_schedule, crons)]
    if limit := deployment.get("concurrency_limit"):
        then = "waits" if limit["collision_strategy"] == "ENQUEUE" else "is left out"
        facts.append(f"{limit['limit']} run at a time, a further one {then}")
    return [
        f"### {deployment['name']}",
        "",
        f"{deployment['description']} {'; '.join(facts)}.",
        "",
        *(f"- Trigger: {_trigger(found)}" for found in deployment.get("triggers", [])),
        "",
        *table(("field of `spec`", "default", "takes", "meaning"), _parameters(request(deployment))),
    ]


def _parameters(kind: type[BaseModel]) -> Iterator[list[str]]:
    """The fields of a request; a specification is linked, not listed again."""
    schema = kind.model_json_schema()
    for name, field in kind.model_fields.items():
        yield [code(name), default(field), takes(schema["properties"][name]), meaning(kind, name, field)]


def _schedule(cron: str) -> str:
    name = cron.strip("{ }").rpartition(".")[2].removeprefix("dyeworks_")
    return f"scheduled by `DYEWORKS_{name.upper()}` (`{BootstrapSettings.model_fields[name].default}`)"


def _trigger(trigger: dict[str, Any]) -> str:
    after = ", ".join(code(event) for event in trigger["expect"])
    labels = [f"`{key}` is `{value}`" for key, value in trigger.get("match", {}).items() if key.startswith("dyeworks.")]
    return f"{trigger['name']} (on {after}{', where ' + ' and '.join(labels) if labels else ''})"


def _wait(trigger: Any) -> str:
    events = " or ".join(sorted(name.removeprefix("prefect.flow-run.") for name in trigger.after))
    return f"{trigger.within.total_seconds():g} seconds without any event since {events}"


def events() -> list[str]:
    """Each event: what it means, its payload, and what it starts."""
    return [
        "## Events",
        "",
        "Every payload has `reason` and `schema_version`; those about a model have `model`, and the resource",
        "`dyeworks.model.<model>`; an upload has `dyeworks.dataset.<dataset>`.",
        "",
        *(line for name, payload in PAYLOADS.items() for line in _event(name, payload)),
    ]


def _event(name: str, payload: type[Payload]) -> list[str]:
    starts = [d["name"] for d in declared() for t in d.get("triggers", []) if name in t["expect"]]
    follows = f" Starts {', '.join(f'[`{deployment}`](#{deployment})' for deployment in starts)}." if starts else ""
    about = str(payload.__doc__).splitlines()[0]
    if payload is Champion:
        about = f"A generation was {name.rpartition('.')[2]}."
    rows = ([field, kind, words] for field, _, kind, words in field_rows(payload, but=("schema_version", "reason")))
    return [f"### {name}", "", f"{about}{follows}", "", *table(("field", "takes", "meaning"), rows)]
