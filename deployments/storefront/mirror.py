"""A local copy of what is served: verified releases, the channel, the configuration, the API keys.

It is a folder store with the keys of the store, so that a restart while the store is away serves the last release.
"""

import errno
import logging
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from tasks.core.access.keys import PLACE, KeyRing
from tasks.core.config.model import ModelConfig
from tasks.core.errors import DocumentInvalid, DyeworksError, ObjectMissing, ReleaseCorrupt, ReleaseWithdrawn
from tasks.core.installation import Installation
from tasks.core.registry.channel import Channel, keep_channel, read_channel
from tasks.core.registry.models import apply_config, configuration, model_names
from tasks.core.registry.releases import fetch_release, prefix, put_release, read_manifest, verify_release
from tasks.core.registry.withdrawals import refuse_withdrawn
from tasks.core.store import FolderStore
from tasks.core.store.documents import digest, render

log = logging.getLogger("dyeworks.storefront")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # errors of a disk without room
MOST = 32  # releases of a model on disk; the least recently used ones are deleted


class CacheUnwritable(DyeworksError):
    """There is no room in the local cache."""

    def __init__(self, folder: str, problem: str) -> None:
        super().__init__(f"cache {folder} cannot be written: {problem}; free space, or set DYEWORKS_CACHE elsewhere")


class Mirror:
    """The releases of one store on this machine; raises StoreUnusable if the cache cannot be written."""

    def __init__(self, installation: Installation, most: int = MOST) -> None:
        self.store, self.most = installation.store, most
        self.folder = installation.settings.cache.absolute() / "served" / digest(self.store.url)
        self.local = FolderStore(self.folder)
        self.verified: set[tuple[str, str]] = set()  # of this process
        self.keys_kept: dict[str, object] = {}
        self.fetching: dict[tuple[str, str], threading.Lock] = {}
        self.evicting = threading.Lock()

    def release(self, model: str, release: str) -> Path:
        """The folder of a release, which is fetched and verified unless it was.

        Raises:
            ReleaseWithdrawn: it was withdrawn.
            ReleaseCorrupt, ObjectMissing, DocumentInvalid: the release is at fault.
            CacheUnwritable: there is no room for a copy of it.
        """
        if not self.holds(model, release):
            with self.fetching.setdefault((model, release), threading.Lock()):  # a slow one delays no other
                self._refuse_withdrawn(model, release)
                self._fetch(model, release)
                self.verified.add((model, release))
            with self.evicting:
                self._evict(model)
        with suppress(FileNotFoundError):  # it was dropped in the meantime
            os.utime(self.path(model, release))
        return self.path(model, release)

    def holds(self, model: str, release: str) -> bool:
        """Whether a verified copy is here."""
        return (model, release) in self.verified and self.path(model, release).exists()

    def drop(self, model: str, release: str) -> None:
        """Delete the copy of a release that was withdrawn."""
        if self.path(model, release).exists():
            self._delete(model, release)

    def path(self, model: str, release: str) -> Path:
        """Where the files of a release are, once it was fetched."""
        return self.folder / prefix(model, release)

    def keep(self, config: ModelConfig) -> None:
        """Write the configuration of a model, for a restart without the store."""
        apply_config(self.local, config)

    def keep_channel(self, model: str, channel: Channel) -> None:
        """Write the channel whose release is served, for a restart without the store."""
        keep_channel(self.local, model, channel)

    def keep_keys(self, keys: KeyRing) -> None:
        """Write the API keys, for a restart without the store."""
        if keys.read != self.keys_kept:
            there = {key: render(document) for key, (_, document) in keys.read.items() if document}
            self.local.delete_many(sorted(set(self.local.list(PLACE)) - set(there)))
            for key, document in there.items():
                self.local.write(key, document)
            self.keys_kept = dict(keys.read)

    def configs(self) -> list[ModelConfig]:
        """The configurations that were served from this store; one that cannot be read is left out."""
        found = []
        for name in model_names(self.local):
            with suppress(DocumentInvalid):
                found.append(configuration(self.local, name).config)
        return found

    def channel(self, model: str) -> Channel | None:
        """The channel that was served last; None if none was, or it cannot be read."""
        with suppress(DocumentInvalid):
            return read_channel(self.local, model)[0]
        return None

    def _refuse_withdrawn(self, model: str, release: str) -> None:
        try:
            refuse_withdrawn(self.store, model, release)
        except ReleaseWithdrawn:
            raise
        except Exception as error:  # any error of a store's client: the copy was verified when it was made
            log.warning("whether release %s was withdrawn cannot be read: %s", release, error)

    def _fetch(self, model: str, release: str) -> None:
        try:
            verify_release(self.local, model, release)
        except (ObjectMissing, ReleaseCorrupt, DocumentInvalid):
            try:
                self._copy(model, release)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                raise CacheUnwritable(str(self.folder), error.strerror or str(error)) from error

    def _copy(self, model: str, release: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fetch_release(self.store, model, release, Path(folder))
            manifest = read_manifest(self.store, model, release)
            put_release(self.local, model, release, manifest, lambda name: Path(folder) / name)

    def _evict(self, model: str) -> None:
        """Delete the least recently used copies; what is served was used last."""
        served = self.channel(model)
        names = self.local.folders(f"models/{model}/releases/")
        oldest = sorted(names, key=lambda name: self.path(model, name).stat().st_mtime)
        for name in oldest[: -self.most]:
            if served is None or name not in {served.release, served.previous}:
                self._delete(model, name)

    def _delete(self, model: str, release: str) -> None:
        self.verified.discard((model, release))
        shutil.rmtree(self.path(model, release), ignore_errors=True)
