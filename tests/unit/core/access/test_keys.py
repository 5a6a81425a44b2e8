"""API keys: created once, found by their hash, revoked, and never stored themselves."""

import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.core import clock
from tasks.core.access.errors import KeyNameUnusable, KeyRejected, KeysUnread, KeyUnknown
from tasks.core.access.keys import BASE62, PLACE, TEXT, KeyRing, create_key, read_keys, revoke_key
from tasks.core.access.roles import Role
from tasks.core.errors import ObjectMissing
from tasks.core.store import FolderStore
from tasks.core.store.base import Store
from tests.counting_store import CountingStore

ANY_TEXT = st.text() | st.from_regex(TEXT, fullmatch=True)


def ring(store: Store) -> KeyRing:
    """The keys of a store, read once."""
    keys = KeyRing()
    keys.refresh(store)
    return keys


@pytest.mark.parametrize("role", get_args(Role))
def test_a_key_has_the_form_of_the_design_and_is_found(role: Role, folder: FolderStore) -> None:
    text, key = create_key(folder, role, "shop", ["adire"])
    _, found, rest = text.split("_")
    assert (found, len(rest), set(rest) <= set(BASE62)) == (role, 36, True)
    digits = [BASE62.index(character) for character in rest[30:]]
    assert sum(digit * 62**place for place, digit in enumerate(reversed(digits))) == zlib.crc32(text[:-6].encode())
    assert text.startswith(key.prefix)
    assert len(text) - len(key.prefix) == 32, "a person sees four random characters of 30"
    assert ring(folder).find(text) == key
    assert read_keys(folder) == [key]
    assert (key.role, key.models, key.expires, key.revoked) == (role, ("adire",), None, None)


def test_the_store_never_has_the_key_itself(folder: FolderStore, tmp_path: Path) -> None:
    text, key = create_key(folder, "admin", "ada")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "store" / f"{PLACE}{key.sha256}.json" in files
    assert [path for path in files if text[-32:-6].encode() in path.read_bytes()] == []


def test_keys_differ(folder: FolderStore) -> None:
    texts = {create_key(folder, "visitor", f"shop-{number}")[0] for number in range(20)}
    assert len({text[:-6] for text in texts}) == len({text[-6:] for text in texts}) == 20


@pytest.mark.parametrize("name", ["", "Shop", "my shop", "shop-", "-", "å", "s" * 41, "a/b", "shop\n"])
def test_bad_name_is_refused(name: str, folder: FolderStore) -> None:
    with pytest.raises(KeyNameUnusable, match="no key can be named"):
        create_key(folder, "visitor", name)
    assert read_keys(folder) == []


def test_name_of_a_valid_key_is_refused_and_free_after_its_end(folder: FolderStore) -> None:
    past = clock.now() - timedelta(seconds=1)
    create_key(folder, "visitor", "shop", expires=past)
    create_key(folder, "visitor", "shop")
    with pytest.raises(KeyNameUnusable, match="a valid key has this name"):
        create_key(folder, "visitor", "shop")
    revoke_key(folder, "shop")
    text, key = create_key(folder, "visitor", "shop")
    assert ring(folder).find(text) == key
    assert [found.name for found in read_keys(folder)] == ["shop"] * 3


def test_revoked_key_is_rejected_after_a_refresh(folder: FolderStore) -> None:
    text, key = create_key(folder, "visitor", "shop")
    other, _ = create_key(folder, "visitor", "other")
    keys = ring(folder)
    (revoked,) = revoke_key(folder, "shop")
    assert (revoked.sha256, revoked.revoked is not None) == (key.sha256, True)
    assert keys.find(text) == key, "it is known by the next refresh"
    keys.refresh(folder)
    with pytest.raises(KeyRejected):
        keys.find(text)
    assert keys.find(other).name == "other"
    assert revoke_key(folder, "shop") == [], "again does nothing"


def test_revoking_keeps_what_a_later_version_has_written(folder: FolderStore) -> None:
    _, key = create_key(folder, "visitor", "shop")
    place = f"{PLACE}{key.sha256}.json"
    folder.write(place, folder.read(place).replace(b'"name"', b'"comment": "of the web shop", "name"'))
    revoke_key(folder, "shop")
    assert b"of the web shop" in folder.read(place)


def test_unknown_name_cannot_be_revoked(folder: FolderStore) -> None:
    create_key(folder, "visitor", "shop")
    with pytest.raises(KeyUnknown, match="no key is named 'shopp'; there are shop"):
        revoke_key(folder, "shopp")


def test_expired_key_is_rejected_without_a_refresh(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    end = datetime(2027, 1, 1, tzinfo=UTC)
    text, key = create_key(folder, "visitor", "shop", expires=end)
    keys = ring(folder)
    monkeypatch.setattr(clock, "now", lambda: end - timedelta(seconds=1))
    assert keys.find(text) == key
    monkeypatch.setattr(clock, "now", lambda: end)
    with pytest.raises(KeyRejected):
        keys.find(text)


def test_deleted_key_is_rejected_after_a_refresh(folder: FolderStore) -> None:
    text, key = create_key(folder, "visitor", "shop")
    keys = ring(folder)
    folder.delete(f"{PLACE}{key.sha256}.json")
    keys.refresh(folder)
    with pytest.raises(KeyRejected):
        keys.find(text)


def test_all_rejections_have_one_message(folder: FolderStore, tmp_path: Path) -> None:
    revoked, expired = (create_key(folder, "visitor", name, expires=end)[0] for name, end in ENDS)
    revoke_key(folder, "shop")
    unknown = create_key(FolderStore(tmp_path / "other"), "visitor", "elsewhere")[0]
    keys, messages = ring(folder), set[str]()
    for text in (revoked, expired, unknown, "", "dyw_", f"{unknown}x", unknown.replace("visitor", "admin")):
        with pytest.raises(KeyRejected) as caught:
            keys.find(text)
        messages.add(str(caught.value))
    assert messages == {"the API key is not valid; check it, or ask the operator for another"}


ENDS = [("shop", None), ("old", datetime(2026, 1, 1, tzinfo=UTC))]


def test_mistyped_key_is_rejected_without_a_look_up(folder: FolderStore) -> None:
    text, _ = create_key(folder, "visitor", "shop")
    unread = KeyRing()
    for place in range(len(text)):
        mistyped = text[:place] + ("b" if text[place] == "a" else "a") + text[place + 1 :]
        with pytest.raises(KeyRejected):
            unread.find(mistyped)
    with pytest.raises(KeysUnread, match="retry in a moment"):
        unread.find(text)


@hypothesis_settings(
    max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=ANY_TEXT)
def test_any_text_is_rejected(text: str, folder: FolderStore) -> None:
    with pytest.raises(KeyRejected):
        ring(folder).find(text)


def test_a_refresh_reads_only_what_is_new_or_changed(folder: FolderStore) -> None:
    for number in range(5):
        create_key(folder, "visitor", f"shop-{number}")
    store = CountingStore(folder)
    keys = ring(store)
    first = len(store.keys["read"])
    keys.refresh(store)
    assert (first, len(store.keys["read"])) == (5, 5)
    revoke_key(folder, "shop-3")
    keys.refresh(store)
    assert len(store.keys["read"]) == 6


@pytest.mark.parametrize("damaged", [b"", b"{}", b"\xff", b'{"schema_version": 2}'])
def test_damaged_document_is_rejected_and_the_others_stay(
    damaged: bytes, folder: FolderStore, caplog: pytest.LogCaptureFixture
) -> None:
    (text, key), (other, _) = create_key(folder, "visitor", "shop"), create_key(folder, "visitor", "other")
    keys, place = ring(folder), f"{PLACE}{key.sha256}.json"
    folder.write(place, damaged)
    keys.refresh(folder)
    with pytest.raises(KeyRejected):
        keys.find(text)
    assert keys.find(other).name == "other"
    assert place in caplog.text
    assert text not in caplog.text


def test_a_document_that_may_not_be_read_holds_up_no_revocation(folder: FolderStore, tmp_path: Path) -> None:
    (_, key), (other, _) = create_key(folder, "visitor", "shop"), create_key(folder, "visitor", "other")
    keys, path = ring(folder), tmp_path / "store" / PLACE / f"{key.sha256}.json"
    revoke_key(folder, "other")
    path.unlink()
    path.symlink_to(path)  # it cannot be opened, as without the right to
    keys.refresh(folder)
    with pytest.raises(KeyRejected):
        keys.find(other)


def test_keys_stay_while_the_store_is_away(folder: FolderStore, tmp_path: Path) -> None:
    text, key = create_key(folder, "visitor", "shop")
    keys = ring(folder)

    class Away(FolderStore):
        def read(self, key: str) -> bytes:
            raise OSError(key)

    create_key(folder, "visitor", "other")
    with pytest.raises(OSError, match="access/keys/"):
        keys.refresh(Away(tmp_path / "store"))
    assert keys.find(text) == key


def test_key_that_is_deleted_during_a_refresh_is_rejected(folder: FolderStore, tmp_path: Path) -> None:
    text, _ = create_key(folder, "visitor", "shop")

    class Deleting(FolderStore):
        def read(self, key: str) -> bytes:
            raise ObjectMissing(key, self.url)

    with pytest.raises(KeyRejected):
        ring(Deleting(tmp_path / "store")).find(text)


def test_a_damaged_document_holds_up_no_command(folder: FolderStore) -> None:
    _, key = create_key(folder, "visitor", "shop")
    folder.write(f"{PLACE}{'0' * 64}.json", b"{")
    assert read_keys(folder) == [key]
    create_key(folder, "visitor", "other")
    assert [revoked.name for revoked in revoke_key(folder, "shop")] == ["shop"]
