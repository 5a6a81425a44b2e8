"""The Hugging Face Hub: main holds the newest generation that was published, tags hold all of them.

Files are compared by content: publishing again, or after an interruption, does only what is missing. A commit is
atomic, so main is never a partial release; a tag is set once the commit was read back.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig, PublishingSpec
from tasks.core.errors import PublishFailed, PublishRefused, ReleaseCorrupt
from tasks.core.installation import Installation
from tasks.core.publishing.access import check_access, check_name, check_token
from tasks.core.publishing.repository import HUB, Refs, Remote, Repository
from tasks.core.registry.ledger import Entry, history
from tasks.core.registry.releases import MANIFEST, ReleaseManifest, fetch_release, read_manifest, release_manifest
from tasks.core.registry.withdrawals import Withdrawal
from tasks.core.store.documents import parse

T = TypeVar("T")
TRIES = 5  # of a commit that conflicts with others
CONFLICTS = frozenset({409, 412})
NUMBER = re.compile(r"generation[ -](\d+)\b", re.I)  # in tags and commit titles
CARD = "README.md"


@dataclass(frozen=True)
class Local:
    """A local file of a release."""

    source: Path | bytes
    sha256: str
    oid: str

    def is_at(self, remote: Remote | None) -> bool:
        """Whether the Hub has the same content."""
        return remote is not None and (remote.sha256 == self.sha256 if remote.sha256 else remote.oid == self.oid)


class Hub:
    """A model of the Hub that releases are published to."""

    def __init__(self, name: str, token: str, *, private: bool = False, endpoint: str = HUB) -> None:
        check_name(name)
        check_token(name, token)
        self.repository, self.private = Repository(name, token, endpoint), private
        self._open = False

    def check(self) -> bool:
        """Whether the model exists; raises PublishRefused unless it can be published to. Checked once."""
        self._open = self._open or check_access(self.repository, self.private)
        return self._open

    def has(self, generation: int) -> bool:
        """Whether a generation was published completely."""
        return self.check() and f"generation-{generation}" in self.repository.refs().tags

    def publish(self, folder: Path, entry: Entry, manifest: bytes) -> str:
        """Commit this generation's release, with its manifest as it is, to main and tag it; returns the commit.

        If main has a newer generation it is unchanged, and its commit is returned.

        Raises:
            PublishRefused: the model or the token cannot be used, or the generation's tag is at another commit.
            PublishFailed: interrupted; run it again.
            ReleaseCorrupt: a local file differs from the manifest.
        """
        files = _release_files(folder, entry.release, manifest)
        if not self.check():
            self.repository.create(self.private)
        return self._retried(lambda: self._publish(files, entry))

    def withdraw(
        self, release: str, manifest: ReleaseManifest, generations: Sequence[int], reason: str, *, delete: bool = False
    ) -> None:
        """Remove a release from the Hub: from main, its tags, and with `delete` its large files in every commit."""
        if not self.check():
            return
        self._retried(lambda: self._clear_main(release, manifest, reason))
        tags = self.repository.refs().tags
        for tag in {f"generation-{number}" for number in generations} & set(tags):
            self.repository.untag(tag)
        if delete:
            self.repository.purge(frozenset(manifest.files.values()))

    def _retried(self, attempt: Callable[[], T]) -> T:
        """Call `attempt` again after a conflict with another writer."""
        for _ in range(TRIES - 1):
            try:
                return attempt()
            except PublishFailed as error:
                if error.status not in CONFLICTS:
                    raise
        return attempt()

    def _publish(self, files: dict[str, Local], entry: Entry) -> str:
        tag, refs = f"generation-{entry.generation}", self.repository.refs()
        tagged = refs.tags.get(tag, "")
        if tagged and (wrong := _differing(self.repository.tree(tagged), files)):
            problem = f"its tag {tag} is at commit {tagged}, where {', '.join(wrong)} differ from release"
            raise PublishRefused(self.repository.url, f"{problem} {entry.release}; check who set it, and delete it")
        if tagged == refs.main or self._holds_newer(refs, entry.generation):
            return tagged or refs.main
        commit = self._settle_main(refs.main, files, _title(entry))
        if not tagged:
            self.repository.tag(tag, commit)
        return tagged or commit

    def _holds_newer(self, refs: Refs, generation: int) -> bool:
        """Whether a newer generation was published, tagged or not."""
        names = [*refs.tags, *self.repository.titles()]
        return any(int(found[1]) > generation for found in map(NUMBER.match, names) if found)

    def _settle_main(self, main: str, files: dict[str, Local], title: str) -> str:
        """The commit at which main has exactly these files, created if necessary and read back."""
        there = self.repository.tree(main)
        add = {path: files[path].source for path in _differing(there, files) if path in files}
        delete = sorted(set(there) - set(files))
        if not add and not delete:
            return main
        commit = self.repository.commit(title, add, delete, main)
        if wrong := _differing(self.repository.tree(commit), files):
            problem = f"read back, {', '.join(wrong)} of commit {commit} differ from what was sent; it is not tagged"
            raise PublishFailed(self.repository.url, problem)
        return commit

    def _clear_main(self, release: str, manifest: ReleaseManifest, reason: str) -> None:
        """Replace the release by a notice, if main has its weights."""
        main = self.repository.refs().main
        there = self.repository.tree(main)
        weights = {sha for name, sha in manifest.files.items() if name.endswith(".safetensors")}
        if weights & {remote.sha256 for remote in there.values()}:
            notice = {CARD: _notice(release, reason)}
            self.repository.commit(f"Withdrawn: release {release}", notice, sorted(set(there) - {CARD}), main)


def open_hub(settings: Settings, publishing: PublishingSpec) -> Hub:
    """The Hub repository of a model, with the token of the settings or of HF_TOKEN."""
    found = settings.hub_token.get_secret_value() or os.environ.get("HF_TOKEN", "")
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    return Hub(publishing.hub_repo, found.strip(), private=publishing.hub_private, endpoint=endpoint)


def _release_files(folder: Path, release: str, manifest: bytes) -> dict[str, Local]:
    """The files of the manifest, and the manifest itself; raises ReleaseCorrupt."""
    files = {MANIFEST: _local(manifest, manifest)}
    for name, sha in parse(ReleaseManifest, manifest, MANIFEST).files.items():
        path = folder / name
        if not path.is_file():
            raise ReleaseCorrupt(release, name)
        files[name] = _local(path, path.read_bytes())
        if files[name].sha256 != sha:
            raise ReleaseCorrupt(release, name)
    return files


def _local(source: Path | bytes, data: bytes) -> Local:
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return Local(source, hashlib.sha256(data).hexdigest(), oid)


def _differing(there: dict[str, Remote], files: dict[str, Local]) -> list[str]:
    """The paths that are missing, different or surplus on the Hub."""
    other = [path for path, local in files.items() if not local.is_at(there.get(path))]
    return sorted([*other, *(set(there) - set(files))])


def _title(entry: Entry) -> str:
    again = f" (generation {entry.restores} again)" if entry.restores else ""
    return f"Generation {entry.generation}: release {entry.release}{again}"


def _notice(release: str, reason: str) -> bytes:
    text = f"Release `{release}` of this model was withdrawn: {reason}"
    return f"---\ntags:\n- withdrawn\n---\n\n# Withdrawn\n\n{text}\n\nPlease do not use copies of it.\n".encode()


class HubTarget:
    """The Hub repository in the settings; raises PublishRefused unless it can be published to."""

    def __init__(self, installation: Installation, model: ModelConfig) -> None:
        self.store, self.model = installation.store, model.name
        self.hub = open_hub(installation.settings, model.publishing)
        self.hub.check()
        self.name = self.hub.repository.url

    def publish(self, entry: Entry) -> str:
        """Commit this generation's release to main; returns the commit. The bare base is no LoRA: main is unchanged."""
        if not entry.release:
            return ""
        with tempfile.TemporaryDirectory() as folder:
            fetch_release(self.store, self.model, entry.release, Path(folder))
            manifest = read_manifest(self.store, self.model, entry.release)
            return self.hub.publish(Path(folder), entry, manifest)

    def serves(self, entry: Entry) -> bool:
        """Whether this generation was published; later changes by people on main are kept."""
        return not entry.release or self.hub.has(entry.generation)

    def withdraw(self, withdrawal: Withdrawal, delete: bool) -> None:
        """Remove a release and its generations' tags from the Hub, and its large files if `delete`."""
        manifest = release_manifest(self.store, self.model, withdrawal.release)
        generations = [e.generation for e in history(self.store, self.model) if e.release == withdrawal.release]
        self.hub.withdraw(withdrawal.release, manifest, generations, withdrawal.reason, delete=delete)
