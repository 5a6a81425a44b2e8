"""Creates what the deployments need on a Prefect server: work pools, limits, automations and variables."""

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.variables import Variable
from prefect.workers.process import ProcessWorker
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from deployments.claim import claim_server
from deployments.watch import create_automations
from tasks.core.config.installation import GPU_LIMIT, ROOT
from tasks.core.errors import SettingError
from tasks.core.installation import Installation

GPU_SLOTS = 1


class BootstrapSettings(BaseSettings):
    """Environment variables that only `dyeworks bootstrap` reads."""

    model_config = SettingsConfigDict(env_prefix="DYEWORKS_", extra="ignore")

    pool_type: str = Field("process", description="Type of the work pools: process, docker, kubernetes…")
    root: str = Field(str(ROOT), description="Folder in which a worker finds the code.")
    monitor_cron: str = Field("0 * * * *", description="How often drift is checked.")
    reconcile_cron: str = Field("*/15 * * * *", description="How often the ledger is reconciled.")
    uploads_cron: str = Field("*/15 * * * *", description="How often uploads are looked for that no ingest has seen.")
    run_command: str = Field("", description="What a process worker starts for a run; empty: Prefect's own command.")
    sweep_cron: str = Field("30 3 * * *", description="How often what nothing needs any more is deleted.")


def bootstrap(installation: Installation) -> list[str]:
    """Claim the server, then create or update pools, limits, automations and variables; returns the changes.

    Raises:
        ServerTaken: the Prefect server belongs to another installation.
        SettingError: a work pool has another type than configured, or the Prefect server does not respond.
    """
    try:
        return _changes(installation)
    except httpx.HTTPError as error:
        raise SettingError("PREFECT_API_URL", f"no Prefect server responds there: {error}") from error


def _changes(installation: Installation) -> list[str]:
    settings = BootstrapSettings()
    kind = settings.pool_type
    with get_client(sync_client=True) as client:
        changes = claim_server(client, installation)
        changes += [*_pool(client, "default", kind, None), *_pool(client, "gpu", kind, GPU_SLOTS), *_limit(client)]
        if kind == "process" and (command := settings.run_command):
            changes += [*_command(client, "default", command), *_command(client, "gpu", command)]
        changes += create_automations(client)
    changes += _variable("dyeworks_root", settings.root)
    changes += _variable("dyeworks_monitor_cron", settings.monitor_cron)
    changes += _variable("dyeworks_reconcile_cron", settings.reconcile_cron)
    changes += _variable("dyeworks_uploads_cron", settings.uploads_cron)
    changes += _variable("dyeworks_sweep_cron", settings.sweep_cron)
    return changes


def _pool(client: SyncPrefectClient, name: str, kind: str, limit: int | None) -> list[str]:
    """An existing pool keeps its limit: an operator may have changed it."""
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, concurrency_limit=limit))
        return [f"work pool {name} ({kind}) created"]
    if pool.type != kind:
        problem = f"work pool {name} has type {pool.type}, not {kind}; change the setting, or delete the pool"
        raise SettingError("DYEWORKS_POOL_TYPE", problem)
    return []


def _command(client: SyncPrefectClient, name: str, command: str) -> list[str]:
    """What starts a run of a pool; by itself a process worker starts another process before it, which takes seconds."""
    template = client.read_work_pool(name).base_job_template or ProcessWorker.get_default_base_job_template()
    variable = template["variables"]["properties"]["command"]
    if variable.get("default") == command:
        return []
    variable["default"] = command
    client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    return [f"work pool {name} starts runs by {command}"]


def _limit(client: SyncPrefectClient) -> list[str]:
    """An existing limit is not changed: an operator may have raised it, and a run may hold a slot."""
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
