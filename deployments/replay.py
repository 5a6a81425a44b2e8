"""Sends the newest events once more: `python -m deployments.replay`, after a Prefect server was killed."""

from tasks.core.events import flush, replay
from tasks.core.settings import get_settings
from tasks.core.store import open_store

COUNT = 3


def main() -> None:
    """Send what waits in the outbox, and the last few events again."""
    store = open_store(get_settings().store)
    replay(store, COUNT)
    flush(store)


if __name__ == "__main__":
    main()
