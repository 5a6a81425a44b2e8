"""The Hugging Face Hub: main holds the newest generation that was published, tags hold all of them.

What lies there is known by its content: published again, or after having been cut off anywhere, only what is missing is
done. A commit is atomic, so main is never half a release; a tag is set when the commit was read back.
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
from tasks.core.registry.releases import MANIFEST, ReleaseManifest, fetch_release, release_manifest
from tasks.core.registry.withdrawals import Withdrawal
from tasks.core.store.documents import render

T = TypeVar("T")
TRIES = 5  # of a commit that others are faster than
CONFLICTS = frozenset({409, 412})
NUMBER = re.compile(r"generation[ -](\d+)\b", re.I)  # in our tags and titles
CARD = "README.md"


@dataclass(frozen=True)
class Local:
    """A file of a release here."""

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
        """Whether the model is there already; raises PublishRefused unless it can be published to. Once is enough."""
        self._open = self._open or check_access(self.repository, self.private)
        return self._open

    def has(self, generation: int) -> bool:
        """Whether a generation was published there to its end."""
        return self.check() and f"generation-{generation}" in self.repository.refs().tags

    def publish(self, folder: Path, entry: Entry, manifest: ReleaseManifest) -> str:
        """Make main this generation's release, and tag it; the commit that holds it.

        Where main holds a newer generation already it stays, and its commit is returned.

        Raises:
            PublishRefused: the model or the token cannot be used, or the generation's tag is at something else.
            PublishFailed: cut off; to be run again.
            ReleaseCorrupt: a file here is not what the manifest says.
        """
        files = _release_files(folder, entry.release, manifest)
        if not self.check():
            self.repository.create(self.private)
        return self._retried(lambda: self._publish(files, entry))

    def withdraw(
        self, release: str, manifest: ReleaseManifest, generations: Sequence[int], reason: str, *, delete: bool = False
    ) -> None:
        """Take a release off the Hub: out of main, its tags, and with `delete` its large files in every commit."""
        if not self.check():
            return
        self._retried(lambda: self._clear_main(release, manifest, reason))
        tags = self.repository.refs().tags
        for tag in {f"generation-{number}" for number in generations} & set(tags):
            self.repository.untag(tag)
        if delete:
            self.repository.purge(frozenset(manifest.files.values()))

    def _retried(self, attempt: Callable[[], T]) -> T:
        """With a fresh look, when another writer was faster."""
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
            raise PublishRefused(self.repository.url, f"{problem} {entry.release}; look who set it, and delete it")
        if tagged == refs.main or self._holds_newer(refs, entry.generation):
            return tagged or refs.main
        commit = self._settle_main(refs.main, files, _title(entry))
        if not tagged:
            self.repository.tag(tag, commit)
        return tagged or commit

    def _holds_newer(self, refs: Refs, generation: int) -> bool:
        """Whether a newer generation was published, tagged or not yet."""
        names = [*refs.tags, *self.repository.titles()]
        return any(int(found[1]) > generation for found in map(NUMBER.match, names) if found)

    def _settle_main(self, main: str, files: dict[str, Local], title: str) -> str:
        """The commit at which main holds exactly these files, made if need be and read back."""
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
        """Put a notice in the place of the release, if main holds its weights."""
        main = self.repository.refs().main
        there = self.repository.tree(main)
        weights = {sha for name, sha in manifest.files.items() if name.endswith(".safetensors")}
        if weights & {remote.sha256 for remote in there.values()}:
            notice = {CARD: _notice(release, reason)}
            self.repository.commit(f"Withdrawn: release {release}", notice, sorted(set(there) - {CARD}), main)


def open_hub(settings: Settings, publishing: PublishingSpec) -> Hub:
    """The Hub's model that a model is published to, with the token of the settings, else that of HF_TOKEN."""
    found = settings.hub_token.get_secret_value() or os.environ.get("HF_TOKEN", "")
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    return Hub(publishing.hub_repo, found.strip(), private=publishing.hub_private, endpoint=endpoint)


def _release_files(folder: Path, release: str, manifest: ReleaseManifest) -> dict[str, Local]:
    """The files of the manifest, and the manifest itself; raises ReleaseCorrupt."""
    files = {MANIFEST: _local(render(manifest), render(manifest))}
    for name, sha in manifest.files.items():
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
    """The paths that are missing, other or too many on the Hub."""
    other = [path for path, local in files.items() if not local.is_at(there.get(path))]
    return sorted([*other, *(set(there) - set(files))])


def _title(entry: Entry) -> str:
    again = f" (generation {entry.restores} again)" if entry.restores else ""
    return f"Generation {entry.generation}: release {entry.release}{again}"


def _notice(release: str, reason: str) -> bytes:
    text = f"Release `{release}` of this model was withdrawn: {reason}"
    return f"---\ntags:\n- withdrawn\n---\n\n# Withdrawn\n\n{text}\n\nPlease do not use copies of it.\n".encode()


class HubPlace:
    """The model that the settings name; raises PublishRefused unless it can be published to."""

    def __init__(self, installation: Installation, model: ModelConfig) -> None:
        self.store, self.model = installation.store, model.name
        self.hub = open_hub(installation.settings, model.publishing)
        self.hub.check()
        self.name = self.hub.repository.url

    def publish(self, entry: Entry) -> str:
        """Make main this generation's release; its commit. The bare base is no LoRA: main stays as it was left."""
        if not entry.release:
            return ""
        with tempfile.TemporaryDirectory() as folder:
            manifest = fetch_release(self.store, self.model, entry.release, Path(folder))
            return self.hub.publish(Path(folder), entry, manifest)

    def serves(self, entry: Entry) -> bool:
        """Whether this generation was published; what people have changed on main since is theirs."""
        return not entry.release or self.hub.has(entry.generation)

    def withdraw(self, withdrawal: Withdrawal, delete: bool) -> None:
        """Take a release and the tags of its generations off the Hub, and delete its large files if asked to."""
        manifest = release_manifest(self.store, self.model, withdrawal.release)
        generations = [e.generation for e in history(self.store, self.model) if e.release == withdrawal.release]
        self.hub.withdraw(withdrawal.release, manifest, generations, withdrawal.reason, delete=delete)
