"""Roles of keys: each may do what is written here, and no more."""

from typing import get_args

from tasks.core.access.roles import Role, Scope, scopes_of

EXPECTED: dict[Role, str] = {
    "visitor": "render vote read",
    "viewer": "read metrics",
    "operator": "render vote read metrics upload",
    "releaser": "read metrics",
    "admin": "render vote read metrics upload",
    "ingest": "upload",
}


def test_every_role_has_its_scopes_and_no_more() -> None:
    assert {role: scopes_of(role) for role in get_args(Role)} == {r: set(s.split()) for r, s in EXPECTED.items()}
    assert scopes_of("admin") == set(get_args(Scope))


def test_a_role_of_a_later_version_may_do_nothing() -> None:
    assert scopes_of("curator") == frozenset()
