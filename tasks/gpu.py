"""The GPU's turn: a global concurrency limit, whichever pool and worker a run has."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect import get_run_logger
from prefect.concurrency.sync import concurrency

from tasks.core.config.installation import GPU_LIMIT

LEASE = 60.0  # seconds after which a killed run's turn is free again; the least that the server takes
PATIENCE = 4 * 3600.0  # seconds


@contextmanager
def one_on_the_gpu() -> Iterator[None]:
    """Wait for the turn and hold it; without the limit there is none to wait for.

    A server that has lost its leases in a restart never ends a turn that was held then: after PATIENCE the run
    continues without one.
    """
    with ExitStack() as held:
        try:
            held.enter_context(concurrency(GPU_LIMIT, lease_duration=LEASE, timeout_seconds=PATIENCE))
        except TimeoutError:
            message = "%s was taken for %d hours; continuing. If nothing runs: prefect gcl update %s --active-slots 0"
            get_run_logger().warning(message, GPU_LIMIT, PATIENCE / 3600, GPU_LIMIT)
        yield
