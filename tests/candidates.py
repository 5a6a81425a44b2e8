"""Results of trainings and evaluations, for tests of later stages; imports neither torch nor MLflow."""

from datetime import UTC, datetime, timedelta

import numpy as np

from tasks.core.config.presets import EvaluationSpec, GateSpec
from tasks.core.config.training import TrainSpec
from tasks.core.gate.evidence import Evidence
from tasks.core.gate.statistics import Scores, Values
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry.results import EvaluationResult, TrainResult, checkpoint_folder, save_result
from tasks.core.store import Store
from tests.adire import NAME

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PROMPTS = tuple(f"prompt {i}" for i in range(12))
QUICK = GateSpec(resamples=200)


def scores(fidelity: float) -> Scores:
    rng = np.random.default_rng(0)
    values = {p: tuple(float(v) for v in rng.normal(fidelity, 0.01, 2)) for p in PROMPTS}
    plain: Values = dict.fromkeys(PROMPTS, (0.5,))
    return {
        "prompt_fidelity": values,
        "style_fidelity": values,
        "diversity": plain,
        "forgetting": dict.fromkeys(PROMPTS, (0.0,)),
        "near_copies": plain,
        "render_seconds": plain,
    }


def training_result(key: str, **fields: object) -> TrainResult:
    """The result of a training, with other fields than usual."""
    usual: dict[str, object] = {
        "key": key,
        "model": NAME,
        "finished": NOW,
        "dataset": "cloth",
        "dataset_version": "v1",
        "spec": TrainSpec(),
        "mlflow_run": "",
        "adapter": "",
        "loss": 0.1,
        "resumed_from": 0,
        "steps_per_second": 1.0,
    }
    return TrainResult.model_validate(usual | fields)


def evaluation_result(key: str, training: str, **fields: object) -> EvaluationResult:
    """The result of an evaluation, of nothing unless other fields are given."""
    usual: dict[str, object] = {
        "key": key,
        "model": NAME,
        "finished": NOW,
        "training": training,
        "champion_generation": 0,
        "spec": EvaluationSpec(),
        "fixed": ("rings",),
        "drifted": (),
        "challenger": {},
        "champion": {},
        "traffic_from": None,
        "pictures": "",
        "scorer": "embedded",
    }
    return EvaluationResult.model_validate(usual | fields)


def trained(
    store: Store, key: str, run: str = "run", model: str = NAME, version: str = "v1", dataset: str = "cloth"
) -> None:
    """A training and its adapter."""
    adapter = f"{checkpoint_folder(model, key)}/adapter/"
    store.write(adapter + WEIGHTS, key.encode())
    about = {"model": model, "dataset": dataset, "dataset_version": version}
    save_result(store, training_result(key, mlflow_run=run, adapter=adapter, **about))


def measured(
    store: Store,
    training: str,
    against: int,
    better: float = 0.2,
    bare: bool = False,
    name: str = "",
    model: str = NAME,
) -> str:
    """An evaluation of a training against a generation; its key."""
    key = name or f"evaluation-{training}-{against}"
    result = evaluation_result(
        key,
        training,
        model=model,
        finished=NOW + timedelta(hours=against),
        champion_generation=against,
        fixed=PROMPTS,
        challenger=scores(0.8),
        champion=scores(0.8 - better),
        evidence=Evidence(bare_base=bare or not against),
    )
    save_result(store, result)
    return key


def evaluated(
    store: Store, training: str, against: int, better: float = 0.2, bare: bool = False, model: str = NAME
) -> str:
    """A training, and its evaluation against a generation; the key of that."""
    trained(store, training, model=model)
    return measured(store, training, against, better, bare, model=model)
