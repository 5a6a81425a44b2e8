"""The GPU slot: a global concurrency limit across all work pools and workers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect import get_run_logger
from prefect.concurrency.sync import concurrency

from tasks.core.config.installation import GPU_LIMIT

LEASE = 60.0  # seconds after which a killed run's slot is released; the minimum that the server accepts
TIMEOUT = 4 * 3600.0  # seconds


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Acquire the GPU slot and hold it; does not wait when the limit does not exist.

    A server that lost its leases in a restart never releases a slot held at that time: after TIMEOUT the run continues
    without one.
    """
    with ExitStack() as held:
        try:
            held.enter_context(concurrency(GPU_LIMIT, lease_duration=LEASE, timeout_seconds=TIMEOUT))
        except TimeoutError:
            message = "%s was in use for %d hours; continuing. If nothing runs: prefect gcl update %s --active-slots 0"
            get_run_logger().warning(message, GPU_LIMIT, TIMEOUT / 3600, GPU_LIMIT)
        yield
