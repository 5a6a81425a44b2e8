"""The layers of the design, checked in the sources and in running processes."""

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from pydantic import BaseModel

from tasks.core.config.installation import ROOT

FLOWS = sorted(p for p in (ROOT / "flows").glob("*.py") if p.stem != "__init__")
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
CORE = ROOT / "tasks/core"
ROOMS = [  # of core, from the ground up
    *(
        "__init__",
        "errors",
        "clock",
        "config",
        "store",
        "access",
        "http",
        "prefect_server",
        "events",
        "outbox",
        "traffic",
    ),
    *("gate", "models", "registry", "installation", "data", "drift", "tracking", "training", "monitoring"),
    *("retraining", "evaluation", "reporting", "publishing", "lifecycle", "notifications", "serving"),
]
CARD = [
    "prefect",
    "mlflow",
    "diffusers",
    "peft",
    "torch",
    "transformers",
    "accelerate",
    "evidently",
    "open_clip",
    "boto3",
    "huggingface_hub",
    "numpy",
    "torchvision",
]
HEAVY = {  # what takes from half a second to six seconds of CPU to import
    *("torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "open_clip", "mlflow", "pandas"),
    *("sklearn", "scipy", "matplotlib", "evidently", "gradio", "huggingface_hub", "boto3", "sqlalchemy"),
}
PROCESSES = [  # code, what it imports, what it does not
    ("import deployments.gateway.app", {"fastapi"}, HEAVY - {"sqlalchemy"} | {"prefect", "numpy", "PIL"}),
    (
        "import deployments.storefront.app",
        {"gradio"},
        {"prefect", "mlflow", "torch", "deployments.gateway"},  # the page is shown before torch is imported
    ),
    (
        "import deployments.storefront.service",
        {"torch"},
        {"prefect", "mlflow", "open_clip", "deployments.gateway"},
    ),
    ("import deployments.cli.app", {"typer"}, HEAVY | {"prefect", "PIL", "fastapi"}),
    ("import tasks.core.retraining.costs", {"pydantic"}, HEAVY | {"prefect"}),
    ("import tasks.core.lifecycle.reconcile", {"pydantic"}, HEAVY | {"prefect"}),
    (
        "import tasks.core.training.run",
        {"torch", "mlflow"},
        {"prefect", "open_clip", "sklearn", "matplotlib", "evidently"},
    ),
    ("import tasks.core.evaluation.run", {"torch", "mlflow"}, {"prefect", "open_clip", "sklearn", "matplotlib"}),
    (
        "import tasks.core.models.encoder",
        {"open_clip"},
        {"prefect", "mlflow", "diffusers", "peft", "pandas", "sklearn"},
    ),
]
FORBIDDEN = [
    ("tasks/core", {"prefect", "flows", "deployments"}),
    ("tasks", {"flows", "deployments", "infra"}),
    ("flows", {"numpy", "torch", "deployments", "infra"}),
    ("deployments", {"flows"}),
    ("infra", {"prefect", "flows", "deployments"}),
    ("deployments/gateway", {"torch", "deployments.storefront"}),
    ("deployments/storefront", {"prefect", "deployments.gateway"}),
]


def imports(path: Path) -> Iterator[str]:
    """The full names a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides what it reaches"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def in_a_process(code: str, tmp_path: Path) -> list[str]:
    """The output of a fresh interpreter, split into words."""
    environment = {"PATH": "/usr/bin:/bin", "DYEWORKS_STORE": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(("folder", "forbidden"), FORBIDDEN)
def test_no_import_against_the_layers(folder: str, forbidden: set[str]) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in imports(path)
        if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden)
    ]
    assert files
    assert not found


def test_core_imports_no_prefect_tasks() -> None:
    names = {name for path in (ROOT / "tasks/core").rglob("*.py") for name in imports(path)}
    assert not {n for n in names if n.startswith("tasks.") and not n.startswith("tasks.core")}


def test_packages_of_core_import_only_lower_ones() -> None:
    """Each package of core imports only packages before it in ROOMS."""
    found = [
        f"{path.relative_to(CORE)}: {name}"
        for path in sorted(CORE.rglob("*.py"))
        for name in imports(path)
        if name.startswith("tasks.core.") and room_of(name) not in ROOMS[: ROOMS.index(room(path)) + 1]
    ]
    assert {room(path) for path in CORE.rglob("*.py")} == set(ROOMS)
    assert not found


def room(path: Path) -> str:
    """The package of a file of core: its folder, or the module itself at the top level."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def room_of(name: str) -> str:
    """The package of an imported name: `tasks.core.gate.decide.settle` and `tasks.core.clock` name theirs third."""
    return name.split(".")[2]


@pytest.mark.parametrize("path", FLOWS, ids=lambda p: str(p.stem))
def test_flow_files_are_short_and_shadow_no_package(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60
    assert importlib.util.find_spec(path.stem) is None


def test_every_flow_has_one_deployment() -> None:
    entrypoints = [d["entrypoint"].partition(":")[0] for d in DEPLOYMENTS]
    assert sorted(entrypoints) == [f"flows/{p.name}" for p in FLOWS]
    assert len({d["name"] for d in DEPLOYMENTS}) == len(DEPLOYMENTS)


def flow_of(deployment: dict[str, Any]) -> "Flow[..., Any]":
    file, _, name = deployment["entrypoint"].partition(":")
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    found: Flow[..., Any] = getattr(module, name)
    return found


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: str(d["name"]))
def test_entrypoint_is_a_flow_that_takes_one_strict_spec(deployment: dict[str, Any]) -> None:
    flow = flow_of(deployment)
    assert isinstance(flow, Flow)
    assert flow.name == deployment["name"]
    assert list(flow.parameters.properties) == ["spec"]
    spec = flow.fn.__annotations__["spec"]
    assert issubclass(spec, BaseModel)
    assert spec.model_config.get("extra") == "forbid"
    assert spec() == spec.model_validate({}), "a deployment runs with no parameters"
    assert all(field.description for field in spec.model_fields.values())


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: str(d["name"]))
def test_parameters_in_the_yaml_are_fields_of_the_spec(deployment: dict[str, Any]) -> None:
    fields = set(flow_of(deployment).fn.__annotations__["spec"].model_fields)
    given = [t["parameters"] for t in deployment.get("triggers", [])] + [deployment.get("parameters", {"spec": {}})]
    for parameters in given:
        assert set(parameters) == {"spec"}
        assert set(parameters["spec"]) <= fields


def test_no_deployment_needs_an_environment_variable() -> None:
    assert "{{ $" not in (ROOT / "prefect.yaml").read_text(), "an unset one breaks `prefect deploy`"


def test_only_what_trains_or_renders_runs_on_the_gpu_pool() -> None:
    on_gpu = {d["name"] for d in DEPLOYMENTS if d["work_pool"]["name"] == "gpu"}
    assert on_gpu == {"train-lora", "evaluate-challenger", "calibrate-gate", "adopt-lora"}


@pytest.mark.parametrize("path", FLOWS, ids=lambda p: str(p.stem))
def test_a_flow_is_loaded_without_what_only_its_tasks_use(path: Path, tmp_path: Path) -> None:
    code = f"import sys, flows.{path.stem}; print(*sys.modules)"
    assert not HEAVY & set(in_a_process(code, tmp_path))


@pytest.mark.parametrize(("code", "wanted", "unwanted"), PROCESSES)
def test_a_process_imports_only_what_it_uses(code: str, wanted: set[str], unwanted: set[str], tmp_path: Path) -> None:
    modules = set(in_a_process(f"import sys\n{code}\nprint(*sys.modules)", tmp_path))
    assert wanted <= modules
    assert not unwanted & modules


def test_packages_of_the_card_import(tmp_path: Path) -> None:
    code = f"import importlib\nfor name in {CARD}: print(importlib.import_module(name).__name__)"
    assert in_a_process(code, tmp_path)[-len(CARD) :] == CARD
