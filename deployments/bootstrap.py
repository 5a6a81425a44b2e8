"""What the deployments need on a Prefect server: work pools, limits, automations and variables."""

import os

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.variables import Variable

from deployments.watch import watch
from tasks.core.config.installation import GPU_LIMIT, ROOT
from tasks.core.errors import SettingError

GPU_SLOTS = 1


def bootstrap() -> list[str]:
    """Create or correct pools, limits, automations and variables; what was changed.

    Raises:
        SettingError: a work pool is of another type than is asked for, or no Prefect server answers.
    """
    try:
        return _changes()
    except httpx.HTTPError as error:
        raise SettingError("PREFECT_API_URL", f"no Prefect server answers there: {error}") from error


def _changes() -> list[str]:
    kind = os.environ.get("DYEWORKS_POOL_TYPE", "process")
    with get_client(sync_client=True) as client:
        changes = [*_pool(client, "default", kind, None), *_pool(client, "gpu", kind, GPU_SLOTS), *_limit(client)]
        changes += watch(client)
    changes += _variable("dyeworks_root", os.environ.get("DYEWORKS_ROOT", str(ROOT)))
    changes += _variable("dyeworks_monitor_cron", os.environ.get("DYEWORKS_MONITOR_CRON", "0 * * * *"))
    changes += _variable("dyeworks_reconcile_cron", os.environ.get("DYEWORKS_RECONCILE_CRON", "*/15 * * * *"))
    return changes


def _pool(client: SyncPrefectClient, name: str, kind: str, limit: int | None) -> list[str]:
    """A pool that is there keeps the limit that it has: an operator may have changed it."""
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, concurrency_limit=limit))
        return [f"work pool {name} ({kind}) created"]
    if pool.type != kind:
        problem = f"work pool {name} is of type {pool.type}, and {kind} is asked for; set it so, or delete the pool"
        raise SettingError("DYEWORKS_POOL_TYPE", problem)
    return []


def _limit(client: SyncPrefectClient) -> list[str]:
    """A limit that is there is left as it is: an operator may have raised it, and somebody may hold a slot."""
    try:
        client.read_global_concurrency_limit_by_name(GPU_LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU_LIMIT, limit=GPU_SLOTS))
        return [f"global concurrency limit {GPU_LIMIT}: {GPU_SLOTS}"]
    return []


def _variable(name: str, value: str) -> list[str]:
    if Variable.get(name) == value:
        return []
    Variable.set(name, value, overwrite=True)
    return [f"variable {name} = {value}"]
