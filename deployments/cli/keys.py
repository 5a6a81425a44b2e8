"""`dyeworks keys`: API keys of the storefront."""

import sys
from datetime import datetime, timedelta
from typing import Annotated, get_args

import typer

from tasks.core import clock
from tasks.core.access.keys import ApiKey, create_key, read_keys, revoke_key
from tasks.core.access.roles import Role
from tasks.core.installation import open_installation

MOST_DAYS = 36_500
app = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")


@app.command("create")
def create(
    role: Annotated[Role, typer.Option("--role", metavar="|".join(get_args(Role)), help="What it may do.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Lower-case letters, digits and hyphens.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="A model that it is for, once for each; else all."),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=MOST_DAYS, help="Days until it expires; else never.")
    ] = None,
) -> None:
    """Create a key and print it.

    It cannot be shown again: the store has its SHA-256 only. The storefront accepts it within seconds.
    """
    installation = open_installation()
    models = [installation.model(one).name for one in model or ()]
    expires = None if days is None else clock.now() + timedelta(days=days)
    text, key = create_key(installation.store, role, name, models, expires)
    print(text)
    print(f"key {_line(key, key.created)}; it is not shown again", file=sys.stderr)


@app.command("list")
def list_keys() -> None:
    """List all keys, also those that were revoked or have expired."""
    now = clock.now()
    lines = [_line(key, now) for key in read_keys(open_installation().store)]
    print("\n".join(lines) or "no key was created yet: dyeworks keys create --role ROLE --name NAME")


@app.command("revoke")
def revoke(name: Annotated[str, typer.Argument(metavar="NAME", help="The key.")]) -> None:
    """Revoke a key for good.

    The storefront rejects it within seconds.
    """
    revoked = revoke_key(open_installation().store, name)
    print("\n".join(f"revoked {key.name}  {key.prefix}..." for key in revoked) or f"{name} was revoked before")


def _line(key: ApiKey, now: datetime) -> str:
    if key.revoked:
        state = f"revoked {key.revoked:%Y-%m-%d %H:%M}"
    elif key.expires:
        state = f"{'expires' if now < key.expires else 'expired'} {key.expires:%Y-%m-%d %H:%M}"
    else:
        state = "never expires"
    models = ", ".join(key.models) or "all models"
    return f"{key.name}  {key.prefix}...  {key.role}  {models}  created {key.created:%Y-%m-%d %H:%M}  {state}"
