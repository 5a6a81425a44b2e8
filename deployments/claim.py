"""The claim of an installation on a Prefect server: a variable there that names the only one that may use it."""

from urllib.parse import urlsplit

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.exceptions import ObjectAlreadyExists

from tasks.core.errors import DyeworksError
from tasks.core.installation import Installation
from tasks.core.registry.store_layout import store_identity

OWNER = "dyeworks_installation"  # the variable


class ServerTaken(DyeworksError):
    """The Prefect server belongs to another installation."""

    def __init__(self, owner: object, own: object) -> None:
        super().__init__(
            f"this Prefect server belongs to the installation of {_words(owner)}, not to that of {_words(own)}: on one "
            "server they would act on each other. Give this one a server, or a workspace of Prefect Cloud, of its own "
            f"(PREFECT_API_URL); if the other is gone, run `prefect variable delete {OWNER}`, then `dyeworks bootstrap`"
        )
        self.owner, self.own = owner, own


def _words(claim: object) -> str:
    return f"store {claim.get('store')} (id {claim.get('id')})" if isinstance(claim, dict) else repr(claim)


def claim_server(client: SyncPrefectClient, installation: Installation) -> list[str]:
    """Claim the server for an installation; returns the changes.

    Raises:
        ServerTaken: it belongs to another one; nothing was changed.
    """
    store = installation.store
    own = {"id": store_identity(store).id, "store": without_credentials(store.url)}
    while (found := client.read_variable_by_name(OWNER)) is None:
        try:
            client.create_variable(VariableCreate(name=OWNER, value=own))
        except ObjectAlreadyExists:  # another bootstrap was first
            continue
        return [f"variable {OWNER} = {own}"]
    if found.value == own:
        return []
    if not isinstance(found.value, dict) or found.value.get("id") != own["id"]:
        raise ServerTaken(found.value, own)
    client.update_variable(VariableUpdate(name=OWNER, value=own))  # the store has moved
    return [f"variable {OWNER} = {own}"]


def without_credentials(url: str) -> str:
    """The URL of a store without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
