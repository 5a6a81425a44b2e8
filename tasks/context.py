"""What every task begins with: the settings and the store of this process."""

from tasks.core.settings import Settings, get_settings
from tasks.core.store import Store, open_store


def open_context() -> tuple[Store, Settings]:
    """The store and the settings; raises StoreUnusable before anything is spent."""
    settings = get_settings()
    return open_store(settings.store), settings
