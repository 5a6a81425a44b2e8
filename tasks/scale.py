"""Where mapped tasks run: on this machine, or on a Dask cluster."""

from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.core.config.installation import Settings
from tasks.core.errors import SettingError


def task_runner() -> TaskRunner[Any]:
    """One task after the other in this process, or wherever the scheduler that `DYEWORKS_DASK` names puts them.

    Raises:
        SettingError: the setting is there, and prefect-dask is not.
    """
    address = Settings().dask
    if not address:
        return ThreadPoolTaskRunner(max_workers=1)
    try:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415  optional: the dependency group `scale`
    except ImportError as error:
        raise SettingError("DYEWORKS_DASK", "prefect-dask is not installed; install the group `scale`") from error
    return DaskTaskRunner(address=address)
