"""The lease of a retrain, held by its run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from prefect import get_run_logger, task
from prefect.runtime import flow_run

from tasks.context import open_model
from tasks.core.config.requests import RetrainRequest
from tasks.core.installation import open_installation
from tasks.core.retraining.causes import decide_by_hand
from tasks.core.retraining.decisions import read_decisions
from tasks.core.retraining.leases import RENEWAL, LeaseLost, renew
from tasks.core.store import Store
from tasks.timeouts import SHORT

log = logging.getLogger("dyeworks.leases")


@task(timeout_seconds=SHORT)
def claim_retrain(request: RetrainRequest) -> RetrainRequest | None:
    """The request with model and decision filled in, and the lease taken; None if the retrain has ended already.

    Raises:
        RetrainInFlight: a person started it while another one is in flight.
        LeaseLost: the ledger has no such decision, or its retrain was taken for dead.
    """
    installation, model = open_model(request.model)
    decision = request.decision or decide_by_hand(installation.store, model, request.run or str(flow_run.id)).id
    ended = {d.outcome_of: d for d in read_decisions(installation.store, model.name)}
    if decision in ended:  # as when its event was delivered twice
        get_run_logger().info("retrain %s has ended: %s", decision, ended[decision].reason)
        return None
    renew(installation.store, model.name, decision)
    return request.model_copy(update={"model": model.name, "decision": decision})


@contextmanager
def lease_held(request: RetrainRequest) -> Iterator[None]:
    """Renew the lease, in a thread, as long as the retrain works."""
    store, ended = open_installation().store, Event()
    thread = Thread(target=_renew_until, args=(ended, store, request), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _renew_until(ended: Event, store: Store, request: RetrainRequest) -> None:
    while not ended.wait(RENEWAL.total_seconds()):
        try:
            renew(store, request.model, request.decision)
        except LeaseLost as error:  # the next stage that matters raises it again
            log.error("%s", error)
            return
        except Exception as error:  # boundary to the store, which may be away for a while
            log.warning("the lease of retrain %s was not renewed: %s", request.decision, error)
