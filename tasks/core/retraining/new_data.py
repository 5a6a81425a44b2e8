"""New data: what the policy says of a dataset version, once, and again while something stood in its way."""

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.data.dataset import Manifest, pictures_since
from tasks.core.registry import ledger
from tasks.core.retraining import policy
from tasks.core.retraining.decisions import RetrainDecision, read_decisions
from tasks.core.store import Store


def decide_on_new_data(
    store: Store, model: ModelConfig, manifest: Manifest, again: bool = False
) -> RetrainDecision | None:
    """The decision; None when the version was decided on.

    With `again`, a version that was declined is looked at once more, and returned only if it now starts a retrain.
    """
    entries = tuple(ledger.history(store, model.name))
    now, spec = clock.now(), model.preset.policy
    history = tuple(read_decisions(store, model.name, policy.REMEMBERED))
    before = [d for d in history if d.cause == "data" and d.dataset_version == manifest.version]
    if before and (not again or before[-1].action == "retrain"):
        return None
    situation = policy.Situation(now=now, history=history, ledger=entries, dataset_version=manifest.version)
    new = pictures_since(store, manifest, entries[-1].dataset_version if entries else "")
    ruling = policy.on_data(new, situation, spec)
    if again and ruling[0] != "retrain":
        return None
    about = manifest.version
    return policy.make_retrain_decision(
        "data", ruling, situation, spec, about, dataset=manifest.dataset, new_pictures=new
    )
