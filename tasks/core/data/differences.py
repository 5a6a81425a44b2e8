"""What of the uploads no ingest has seen yet, by their listing alone: for uploads whose notification was lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.core.data.dataset import index_key
from tasks.core.data.failures import last_failure, listing_digest
from tasks.core.data.file_kinds import may_enter
from tasks.core.data.index import DatasetIndex, UploadEntry
from tasks.core.errors import DocumentInvalid, ObjectMissing
from tasks.core.store import Listed, Store
from tasks.core.store.documents import digest, read_document


@dataclass(frozen=True)
class UploadDifference:
    """Uploads that are new, were changed, or are gone since the last ingest."""

    new: Mapping[str, Listed]
    changed: Mapping[str, Listed]
    gone: Mapping[str, UploadEntry]
    tried: str = ""  # digest of the uploads on which the last ingest failed, if these are others

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.new or self.changed or self.gone or self.tried)

    def __str__(self) -> str:
        """The numbers."""
        return f"{len(self.new):,} new, {len(self.changed):,} changed, {len(self.gone):,} gone"

    @property
    def digest(self) -> str:
        """Digest of what differs: another one as soon as an upload is written or removed."""
        parts: tuple[Mapping[str, Listed | UploadEntry], ...] = (self.new, self.changed, self.gone)
        return digest(
            self.tried,
            *(
                f"{number} {name} {one.size} {one.time} {one.tag}"
                for number, entries in enumerate(parts)
                for name, one in sorted(entries.items())
            ),
        )

    def is_quiet(self, now: datetime, quiet: timedelta) -> bool:
        """Whether nothing was written for so long; what is gone, or is of the future, has no time.

        Old files say nothing: programs that copy may keep their times.
        """
        ages = [now - one.time for one in (*self.new.values(), *self.changed.values()) if one.time <= now]
        return not ages or min(ages) >= quiet


def find_difference(store: Store, dataset: str) -> UploadDifference:
    """Compare the uploads with those that the last ingest has listed, whether it made a version or not.

    It costs a listing and one or two documents; no upload is read. What can't enter a dataset by its name, and a file
    that the last ingest has left out, is no difference.
    """
    folder = f"uploads/{dataset}/"
    found = {each.key.removeprefix(folder): each for each in store.scan(folder)}
    listed = {name: each for name, each in found.items() if may_enter(name)}
    failed = last_failure(store, dataset)
    tried = failed.listing if failed else ""
    if tried == listing_digest(listed):
        return UploadDifference({}, {}, {})
    known = _known(store, dataset)
    return UploadDifference(
        new={name: each for name, each in listed.items() if name not in known},
        changed={name: each for name, each in listed.items() if name in known and not known[name].is_of(each)},
        gone={name: entry for name, entry in known.items() if name not in listed},
        tried=tried,
    )


def _known(store: Store, dataset: str) -> dict[str, UploadEntry]:
    """What the index holds, whatever limits and code it was made with; nothing where it cannot be read."""
    try:
        return read_document(store, DatasetIndex, index_key(dataset)).uploads()
    except (ObjectMissing, DocumentInvalid):
        return {}
