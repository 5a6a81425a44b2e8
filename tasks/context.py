"""What every task begins with: the settings and the store of this process."""

from typing import cast

from prefect.blocks.system import Secret
from pydantic import SecretStr

from tasks.core.errors import SettingError
from tasks.core.settings import Settings, get_settings
from tasks.core.store import Store, open_store


def open_context() -> tuple[Store, Settings]:
    """The store and the settings; raises StoreUnusable before anything is spent."""
    settings = get_settings()
    return open_store(settings.store), settings


def open_publishing() -> tuple[Store, Settings]:
    """The same, with the Hub's token where a Prefect Secret block holds it; raises SettingError where none does."""
    store, settings = open_context()
    if not settings.hub_secret:
        return store, settings
    try:
        token = cast(Secret[str], Secret.load(settings.hub_secret)).get()
    except ValueError as error:  # so Prefect tells that there is no such block
        problem = f"there is no Secret block {settings.hub_secret!r} on the Prefect server; create it, or set the token"
        raise SettingError("DYEWORKS_HUB_SECRET", problem) from error
    return store, settings.model_copy(update={"hub_token": SecretStr(str(token))})
