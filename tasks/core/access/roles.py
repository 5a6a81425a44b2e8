"""Roles of API keys, and what each may do."""

from collections.abc import Mapping
from typing import Literal

Role = Literal["visitor", "viewer", "operator", "releaser", "admin", "ingest"]
Scope = Literal["render", "vote", "read", "metrics", "upload"]  # pictures; votes; list of models; figures; datasets
ALL: frozenset[Scope] = frozenset(("render", "vote", "read", "metrics", "upload"))
SCOPES: Mapping[str, frozenset[Scope]] = {
    "visitor": frozenset(("render", "vote", "read")),
    "viewer": frozenset(("read", "metrics")),
    "operator": ALL,
    "releaser": frozenset(("read", "metrics")),
    "admin": ALL,
    "ingest": frozenset(("upload",)),
}


def scopes_of(role: str) -> frozenset[Scope]:
    """What a role may do; nothing, for a role that only a later version knows."""
    return SCOPES.get(role, frozenset())
