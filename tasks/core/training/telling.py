"""What MLflow is told of a training before its first step."""

from tasks.core import tracking
from tasks.core.data.dataset import Manifest, manifest_key
from tasks.core.provenance import provenance
from tasks.core.settings import Settings
from tasks.core.spec import flat
from tasks.core.training.plan import TrainPlan


def open_training(settings: Settings, plan: TrainPlan, manifest: Manifest) -> str:
    """The id of the plan's run, with its parameters, specification, dataset and code."""
    spec = plan.spec.model_dump(mode="json")
    parameters = {"dataset": manifest.version, "held_out": plan.held, "base": plan.base, **flat(plan.spec)}
    run = tracking.open_run(f"{settings.model}-train", plan.key, plan.key, parameters, provenance())
    tracking.log_document(run, spec, "spec.json")
    key = manifest_key(manifest.dataset, manifest.version)
    tracking.log_dataset(run, manifest.dataset, manifest.version, key, len(manifest.items))
    return run
