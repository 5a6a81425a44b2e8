"""The task runner of mapped tasks: this machine, or a Dask cluster."""

from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.core.config.installation import Settings
from tasks.core.errors import SettingError


def task_runner() -> TaskRunner[Any]:
    """Runs tasks one after another in this process, or on the Dask scheduler that `DYEWORKS_DASK` names.

    Raises:
        SettingError: the variable is set, but prefect-dask is not installed.
    """
    address = Settings().dask
    if not address:
        return ThreadPoolTaskRunner(max_workers=1)
    try:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415  optional: the dependency group `scale`
    except ImportError as error:
        raise SettingError("DYEWORKS_DASK", "prefect-dask is not installed; install the group `scale`") from error
    return DaskTaskRunner(address=address)
