"""API keys: `dyw_<role>_<30 base62><6 of CRC32>`. The store has their SHA-256, never a key itself."""

import logging
import re
import secrets
import string
import zlib
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from tasks.core import clock
from tasks.core.access.errors import KeyNameUnusable, KeyRejected, KeysUnread, KeyUnknown
from tasks.core.access.roles import Role
from tasks.core.errors import DocumentInvalid, ObjectMissing, ObjectUnreadable
from tasks.core.store import Store
from tasks.core.store.base import Listed
from tasks.core.store.documents import Document, parse, read_document, render, revised

PLACE = "access/keys/"
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM, CHECK = 30, 6  # characters: 178 bits, and 32 bits that only catch a mistyped key
TEXT = re.compile(rf"(dyw_[a-z]+_[0-9A-Za-z]{{{RANDOM}}})([0-9A-Za-z]{{{CHECK}}})")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LONGEST_NAME = 40
SHOWN = 4  # random characters of a key by which a person recognises it

log = logging.getLogger("dyeworks.access")


class ApiKey(Document):
    """A key without its text."""

    name: str
    role: Role
    models: tuple[str, ...] = ()  # the only ones that it is for; empty: all
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    sha256: str
    prefix: str  # the first characters of the key

    @property
    def id(self) -> str:
        """Stands for the key in logs and sessions."""
        return self.sha256[:12]

    def is_valid(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


def create_key(
    store: Store, role: Role, name: str, models: Sequence[str] = (), expires: datetime | None = None
) -> tuple[str, ApiKey]:
    """Create a key; returns its text, which is not stored, and what is.

    Raises:
        KeyNameUnusable: the name is malformed, or a valid key has it.
    """
    now = clock.now()
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise KeyNameUnusable(name, f"use lower-case letters, digits and hyphens, {LONGEST_NAME} at most")
    if any(key.name == name and key.is_valid(now) for key in read_keys(store)):
        raise KeyNameUnusable(name, "a valid key has this name; choose another, or revoke that one first")
    stem = f"dyw_{role}_{''.join(secrets.choice(BASE62) for _ in range(RANDOM))}"
    text = stem + _checksum(stem)
    key = ApiKey(
        name=name,
        role=role,
        models=tuple(models),
        created=now,
        expires=expires,
        sha256=_hash(text),
        prefix=stem[: SHOWN - RANDOM],
    )
    store.create(_place(key), render(key))
    return text, key


def read_keys(store: Store) -> list[ApiKey]:
    """All keys that can be read, oldest first, with those that were revoked or have expired."""
    found = [key for place in store.list(PLACE) if (key := _read(store, place))]
    return sorted(found, key=lambda key: (key.created, key.name))


def revoke_key(store: Store, name: str) -> list[ApiKey]:
    """Revoke the keys of a name; returns those that were not revoked before.

    Raises:
        KeyUnknown: there is no key of this name.
        StoreConflict: another process has just changed one of them.
    """
    keys = read_keys(store)
    found = [key for key in keys if key.name == name]
    if not found:
        raise KeyUnknown(name, sorted({key.name for key in keys}))
    return [_revoke(store, key) for key in found if key.revoked is None]


def _revoke(store: Store, key: ApiKey) -> ApiKey:
    written, version = store.read_versioned(_place(key))
    revoked = parse(ApiKey, written, _place(key)).model_copy(update={"revoked": clock.now()})
    store.swap(_place(key), revised(written, revoked), version)
    return revoked


class KeyRing:
    """The keys of a store, in memory.

    `find` never waits for the store. A thread of the owner calls `refresh`; while the store is away, the keys that were
    read last stay valid.
    """

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] | None = None  # by SHA-256; None: not read yet
        self.read: dict[str, tuple[Listed, ApiKey | None]] = {}  # by the key of the store; None: it cannot be read

    def refresh(self, store: Store) -> None:
        """Read what is new or changed; raises what the store raises, and then the keys stay as they are."""
        read = {item.key: (item, self._document(store, item)) for item in store.scan(PLACE)}
        self.keys = {key.sha256: key for _, key in read.values() if key}
        self.read = read

    def find(self, text: str) -> ApiKey:
        """The valid key of this text.

        Raises:
            KeyRejected: it is malformed, unknown, revoked or expired.
            KeysUnread: the store was never read.
        """
        found = TEXT.fullmatch(text)
        if not found or _checksum(found[1]) != found[2]:
            raise KeyRejected
        if self.keys is None:
            raise KeysUnread
        key = self.keys.get(_hash(text))
        if key is None or not key.is_valid(clock.now()):
            raise KeyRejected
        return key

    def _document(self, store: Store, item: Listed) -> ApiKey | None:
        known = self.read.get(item.key)
        if known and known[0] == item:
            return known[1]
        return _read(store, item.key)


def _read(store: Store, place: str) -> ApiKey | None:
    """The key in a document; None for one that cannot be read, which holds up no other."""
    try:
        return read_document(store, ApiKey, place)
    except (DocumentInvalid, ObjectMissing, ObjectUnreadable) as error:
        log.error("a key is rejected, the others stay: %s", error)
        return None


def _place(key: ApiKey) -> str:
    return f"{PLACE}{key.sha256}.json"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _checksum(stem: str) -> str:
    rest, digits = zlib.crc32(stem.encode()), ""
    for _ in range(CHECK):
        rest, digit = divmod(rest, len(BASE62))
        digits = BASE62[digit] + digits
    return digits
