"""The uploads of the store, as the gateway writes and lists them.

Pictures are not decoded here. A listing has for each file its sha256 or MD5, so that a client need not trust names.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from deployments.gateway.received import ReceivedFile
from deployments.gateway.upload_answers import ListedUpload, UploadPage
from deployments.problems import ApiError
from tasks.core.data.file_kinds import is_ready, reason_left_out
from tasks.core.errors import BadKey, ObjectMissing, ObjectUnreadable
from tasks.core.installation import Installation
from tasks.core.store import Listed, Store, is_key
from tasks.core.store.base import check_key

PAGE, HASHED_BYTES = 5_000, 2**28  # files of a page of a listing, and bytes that are read to hash some of them
DIGESTS = 100_000  # that are remembered
LOCKS = 256  # of names: two that share one wait for each other
MD5 = re.compile(r"[0-9a-f]{32}")  # as the tag of an object that was stored in one part, unless it is encrypted


class UploadNameRefused(ApiError):
    """No store can hold a file of this name, or an ingest would leave it out."""

    status = 422
    code = "invalid_name"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name[:200]!r} is not taken: {problem}", "name")
        self.name = name


class UploadNameTaken(ApiError):
    """A folder has the name of a file, or a file that of a folder."""

    status = 409
    code = "name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:200]!r} cannot be stored beside what is there: a file and a folder have one name", "name"
        )


class KeptUpload(NamedTuple):
    """A file that is in the store."""

    listed: Listed
    is_new: bool  # it was written; else the store held the same before


class UploadStore:
    """Uploads of an installation. Every method may wait for the store, and raises what its client raises."""

    def __init__(self, installation: Callable[[], Installation]) -> None:
        self.installation, self.digests = installation, KnownDigests()
        self._locks = [Lock() for _ in range(LOCKS)]

    def keep(self, dataset: str, name: str, received: ReceivedFile) -> KeptUpload:
        """Store a file, unless the store holds the same under its name."""
        key, store = f"uploads/{dataset}/{name}", self.installation().store
        with self._locks[hash(key) % LOCKS]:  # else what is found then may be another request's file
            found = _found(store, key)
            if found and _is_same(store, found, received):
                return KeptUpload(found, is_new=False)
            try:
                store.put_file(key, received.file)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise UploadNameTaken(name) from error
            found = store.stat(key)
        if _may_hold(found, received):
            self.digests.add(found, received.sha256)
        return KeptUpload(found, is_new=True)

    def page(self, dataset: str, after: str) -> UploadPage:
        """The files whose names come after one; as many as may be listed and hashed at once."""
        folder, store, left = f"uploads/{dataset}/", self.installation().store, HASHED_BYTES
        page = UploadPage(dataset=dataset, files=[])
        for found in store.scan(folder, _begin(folder, after)):
            name = found.key.removeprefix(folder)
            if name <= after:
                continue
            if len(page.files) >= PAGE or left <= 0:
                page.next = page.files[-1].name
                break
            md5, sha256 = found.tag if MD5.fullmatch(found.tag) else "", self.digests.get(found)
            if not (md5 or sha256):
                left -= found.size
                sha256 = self._hashed(store, found)
            page.files.append(ListedUpload(name=name, size=found.size, sha256=sha256, md5=md5))
        return page

    def _hashed(self, store: Store, found: Listed) -> str:
        try:
            sha256 = store.sha256(found.key)
        except (ObjectMissing, ObjectUnreadable):
            return ""
        self.digests.add(found, sha256)
        return sha256


class KnownDigests:
    """The sha256 of objects that were written or read here, as long as they are listed as they were then."""

    def __init__(self) -> None:
        self._lock, self._known = Lock(), OrderedDict[tuple[str, int, str], str]()

    def add(self, found: Listed, sha256: str) -> None:
        """Remember one; the oldest are forgotten."""
        with self._lock:
            self._known[found.key, found.size, found.tag] = sha256
            if len(self._known) > DIGESTS:
                self._known.popitem(last=False)

    def get(self, found: Listed) -> str:
        """The sha256 in hexadecimal digits; empty where it is not known."""
        with self._lock:
            return self._known.get((found.key, found.size, found.tag), "")


def check_name(dataset: str, name: str) -> None:
    """Raise UploadNameRefused unless an ingest takes a file of this name."""
    try:
        check_key(f"uploads/{dataset}/{name}")
    except BadKey as error:
        raise UploadNameRefused(name, str(error)) from error
    if not is_ready(name) and (reason := reason_left_out(name)):
        raise UploadNameRefused(name, reason)


def _begin(folder: str, after: str) -> str:
    """A key after which every store still lists all later names than this one, and few before; empty: it lists all.

    Some list by folder, 'a/b' before 'a.b', which is earlier by its bytes. In both orders all of them come after a name
    that is cut before the first character that precedes a slash, and ends with the last of these, a dot.
    """
    plain = re.match("[^ -.]*", after)
    cut = plain[0] if plain else ""
    begin = folder + (after if cut == after else f"{cut[:-1]}.")
    return begin if is_key(begin) and not cut.endswith("/") else ""


def _found(store: Store, key: str) -> Listed | None:
    try:
        return store.stat(key)
    except ObjectMissing:
        return None


def _may_hold(found: Listed, received: ReceivedFile) -> bool:
    """Whether an object can be what was received, as far as its size and tag tell: another process may write it too."""
    return found.size == received.size and (found.tag == received.md5 or not MD5.fullmatch(found.tag))


def _is_same(store: Store, found: Listed, received: ReceivedFile) -> bool:
    """Whether an object holds what was received; its content is only read where that is likely."""
    return found.size == received.size and (found.tag == received.md5 or store.sha256(found.key) == received.sha256)
