"""The places of the store, from its inventory."""

from typing import get_args

from tasks.core.config.requests import Retention
from tasks.core.store.inventory import PLACES, Life, Place
from tests.reference.tables import code, field_rows, table

LIVES = {
    "permanent": "never deleted: of constant size, or one small document for each act",
    "user's": "never deleted: put there by people",
    "age": "deleted by `sweep-store` once it is older than its retention",
    "reference": "deleted by `sweep-store` once nothing that is kept needs it, and it is older than its retention",
    "derived": "computed again from other places: deleted by its owner, or by hand at any time",
}


def places() -> list[str]:
    """Each place with its owner and life time, the life times, and the retentions."""
    return [
        "## The store",
        "",
        "`<name>` is one segment of a key, `…` the rest. Modules are those of `tasks/core`.",
        "",
        *table(("place", "holds", "written by", "kept"), map(_row, PLACES)),
        "What the last column means:",
        "",
        *(f"- {life}: {LIVES[life]}" for life in get_args(Life)),
        "",
        "### retention",
        "",
        f"{Retention.__doc__} A field of [`sweep-store`](#sweep-store).",
        "",
        *table(("field", "default", "takes", "meaning"), field_rows(Retention)),
    ]


def _row(place: Place) -> list[str]:
    kept = f"{place.life}: [`{place.retention}`](#retention)" if place.retention else place.life
    return [code(place.pattern), place.holds, place.owner, kept]
