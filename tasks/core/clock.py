"""The time, UTC. One function, so that a demo or a test can let days pass."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tasks.core.settings import get_settings


def now() -> datetime:
    """The present moment, plus the seconds in the file that `DYEWORKS_CLOCK` names, if any."""
    name = get_settings().clock
    ahead = float(Path(name).read_text(encoding="utf-8")) if name and Path(name).exists() else 0.0
    return datetime.now(UTC) + timedelta(seconds=ahead)
