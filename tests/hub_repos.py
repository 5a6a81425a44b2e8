"""Repositories, tokens and large files of the Hub in memory, as real as its client needs them."""

import hashlib
import itertools
from dataclasses import dataclass, field, replace
from typing import Any

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
LARGE = 10 * 2**20  # bytes from which text is a large file too
_COUNTER = itertools.count()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class Blob:
    """A file of a commit; of a large one git holds a pointer alone."""

    data: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{self.sha256}", f"size {len(self.data)}")
        return ("\n".join(lines) + "\n").encode()

    @property
    def oid(self) -> str:
        return git_oid(self.pointer if self.lfs else self.data)

    def as_json(self, path: str) -> dict[str, Any]:
        large = {"oid": self.sha256, "size": len(self.data), "pointerSize": len(self.pointer)}
        entry: dict[str, Any] = {"type": "file", "path": path, "oid": self.oid, "size": len(self.data)}
        return entry | ({"lfs": large} if self.lfs else {})


@dataclass(frozen=True)
class Commit:
    title: str
    files: dict[str, Blob]
    parent: str = ""
    id: str = field(default_factory=lambda: hashlib.sha1(str(next(_COUNTER)).encode()).hexdigest())


@dataclass
class Repo:
    private: bool = False
    objects: dict[str, bytes] = field(default_factory=dict)  # large files by sha256, uploaded or committed
    commits: dict[str, Commit] = field(default_factory=dict)
    main: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add(Commit("initial commit", {".gitattributes": Blob(GITATTRIBUTES)}))

    def add(self, commit: Commit) -> Commit:
        self.commits[commit.id] = commit
        self.main = commit.id
        return commit

    def at(self, revision: str) -> Commit | None:
        known = {"main": self.main, **self.tags}
        return self.commits.get(known.get(revision, revision))

    @property
    def head(self) -> Commit:
        return self.commits[self.main]

    def files(self) -> dict[str, bytes]:
        """The files of main, without git's own."""
        return {path: blob.data for path, blob in self.head.files.items() if path != ".gitattributes"}

    def log(self, revision: str) -> list[Commit]:
        """Newest first."""
        found, commit = [], self.at(revision)
        while commit:
            found.append(commit)
            commit = self.commits.get(commit.parent)
        return found

    def edit(self, path: str, data: bytes | None, title: str = "by hand") -> None:
        """A commit by another account; None deletes the file."""
        files = {p: b for p, b in self.head.files.items() if p != path}
        self.add(Commit(title, files | ({path: Blob(data)} if data is not None else {}), self.main))

    def applied(self, lines: list[dict[str, Any]], content: dict[str, bytes]) -> dict[str, Blob]:
        """The files after the operations of a commit; `content` is what they hold."""
        files = dict(self.head.files)
        for line in lines:
            path = line["value"].get("path", "")
            if line["key"] in {"file", "lfsFile"}:
                files[path] = Blob(content[path], line["key"] == "lfsFile")
            elif line["key"] == "deletedFile":
                files.pop(path)
            elif line["key"] == "deletedFolder":
                files = {p: b for p, b in files.items() if not p.startswith(f"{path.rstrip('/')}/")}
        return files

    def purge(self, shas: set[str]) -> None:
        """Delete large files, and rewrite history without them."""
        self.objects = {sha: data for sha, data in self.objects.items() if sha not in shas}
        new: dict[str, Commit] = {}
        names: dict[str, str] = {}
        for old in self.commits.values():  # oldest first
            files = {p: b for p, b in old.files.items() if not (b.lfs and b.sha256 in shas)}
            made = Commit(old.title, files, names.get(old.parent, ""))
            new[made.id], names[old.id] = made, made.id
        self.commits, self.main = new, names[self.main]
        self.tags = {tag: names[commit] for tag, commit in self.tags.items()}

    def squash(self, title: str) -> None:
        self.add(replace(Commit(title, self.head.files), parent=""))


@dataclass(frozen=True)
class Account:
    """The account of a token, and its permissions."""

    user: str
    role: str = "write"
    orgs: dict[str, str] = field(default_factory=dict)
    scopes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # permissions of a fine-grained token, by entity

    def may_read(self, owner: str) -> bool:
        return owner == self.user or owner in self.orgs

    def may_write(self, owner: str, repo: str) -> bool:
        if self.role == "fineGrained":
            return any("repo.write" in self.scopes.get(entity, ()) for entity in (owner, f"{owner}/{repo}"))
        member = owner == self.user or self.orgs.get(owner) in {"write", "admin"}
        return member and self.role == "write"

    def as_json(self) -> dict[str, Any]:
        """The response of /api/whoami-v2."""
        token: dict[str, Any] = {"displayName": "tests", "role": self.role}
        if self.role == "fineGrained":
            scoped = [{"entity": {"name": n, "type": "org"}, "permissions": list(p)} for n, p in self.scopes.items()]
            token["fineGrained"] = {"global": [], "scoped": scoped}
        orgs = [{"type": "org", "name": name, "roleInOrg": role} for name, role in self.orgs.items()]
        return {"type": "user", "name": self.user, "orgs": orgs, "auth": {"type": "access_token", "accessToken": token}}
