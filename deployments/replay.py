"""Sends the newest events once more: `python -m deployments.replay`, after a Prefect server was killed."""

import sys

from tasks.core.config.installation import get_settings
from tasks.core.outbox import replay, send_all
from tasks.core.store import open_store

COUNT = 3


def main() -> None:
    """Send what waits in the outbox, and the last few events again."""
    store = open_store(get_settings().store)
    replay(store, COUNT)
    for fault in send_all(store).faults.values():
        print(f"dyeworks: {fault}", file=sys.stderr)


if __name__ == "__main__":
    main()
