"""Client of a model repository on the Hugging Face Hub.

Errors of huggingface_hub become PublishFailed, without the token and without the original error as cause, which holds
the request with its headers.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field

from tasks.core.errors import PublishFailed

T = TypeVar("T")
HUB = "https://huggingface.co"
KEPT = ".gitattributes"  # the Hub's own file in every repository


@dataclass(frozen=True)
class Refs:
    """The commit of the main branch, and those of the tags."""

    main: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Remote:
    """A file on the Hub: a large one by its sha256, any other by its git blob id."""

    sha256: str
    oid: str


class _Entity(BaseModel):
    name: str = ""


class _Scope(BaseModel):
    entity: _Entity
    permissions: tuple[str, ...] = ()


class _FineGrained(BaseModel):
    scoped: tuple[_Scope, ...] = ()


class _Token(BaseModel):
    role: str = ""
    fine_grained: _FineGrained | None = Field(None, alias="fineGrained")


class _Auth(BaseModel):
    token: _Token | None = Field(None, alias="accessToken")  # None: no token of a user, such as one of OAuth


class _Organisation(BaseModel):
    name: str
    role: str = Field("", alias="roleInOrg")


class Who(BaseModel):
    """The owner of a token and its permissions."""

    name: str
    orgs: tuple[_Organisation, ...] = ()
    auth: _Auth = _Auth()

    @property
    def role(self) -> str:
        """The token's role: read, write, or fineGrained; empty if the Hub does not report it."""
        return self.auth.token.role if self.auth.token else ""

    def may(self, permission: str, entities: set[str]) -> bool:
        """Whether a fine-grained token has a permission for one of these owners and repositories."""
        fine = self.auth.token.fine_grained if self.auth.token else None
        return any(s.entity.name in entities and permission in s.permissions for s in (fine.scoped if fine else ()))


class Repository:
    """A model repository, accessed with a token; each method raises PublishFailed."""

    def __init__(self, name: str, token: str, endpoint: str) -> None:
        from huggingface_hub import HfApi  # noqa: PLC0415  lazy: only publishing to the Hub needs it
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

        disable_progress_bars()
        self.name, self.url = name, f"{endpoint.rstrip('/')}/{name}"
        self._token, self._api = token, HfApi(endpoint=endpoint, token=token)

    def who(self) -> Who:
        """The owner of the token, requested once: the Hub limits the rate of this request."""
        return Who.model_validate(self._call(lambda: self._api.whoami(cache=True)))

    def is_private(self) -> bool:
        """Whether the repository is private; status 404 or 401 if there is none."""
        return bool(self._call(lambda: self._api.model_info(self.name)).private)

    def check_writable(self) -> None:
        """Raise unless the token may write to the repository."""
        self._call(lambda: self._api.auth_check(self.name, write=True))

    def create(self, private: bool) -> None:
        """Create the repository if it does not exist; public unless `private` or the owner's default is private."""
        self._call(lambda: self._api.create_repo(self.name, private=private or None, exist_ok=True))

    def refs(self) -> Refs:
        """The commits of main and the tags."""
        found = self._call(lambda: self._api.list_repo_refs(self.name))
        main = next(ref.target_commit for ref in found.branches if ref.name == "main")
        return Refs(main, {ref.name: ref.target_commit for ref in found.tags})

    def titles(self) -> list[str]:
        """The titles of main's commits, newest first."""
        return [commit.title for commit in self._call(lambda: self._api.list_repo_commits(self.name))]

    def tree(self, revision: str) -> dict[str, Remote]:
        """The files of a revision without the Hub's own."""
        from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

        found = self._call(lambda: list(self._api.list_repo_tree(self.name, revision=revision, recursive=True)))
        files = [f for f in found if isinstance(f, RepoFile) and f.path != KEPT]
        return {f.path: Remote(f.lfs.sha256 if f.lfs else "", f.blob_id) for f in files}

    def commit(self, title: str, add: Mapping[str, Path | bytes], delete: Iterable[str], parent: str) -> str:
        """One commit on main, all or nothing; status 412 if main is no longer `parent`."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete  # noqa: PLC0415

        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path, source) for path, source in add.items()),
            *(CommitOperationDelete(path, is_folder=False) for path in delete),
        ]
        done = self._call(
            lambda: self._api.create_commit(self.name, operations, commit_message=title, parent_commit=parent)
        )
        return done.oid

    def tag(self, name: str, commit: str) -> None:
        """Tag a commit; status 409 if the tag exists."""
        self._call(lambda: self._api.create_tag(self.name, tag=name, revision=commit))

    def untag(self, name: str) -> None:
        """Remove a tag."""
        self._call(lambda: self._api.delete_tag(self.name, tag=name))

    def purge(self, shas: frozenset[str]) -> None:
        """Delete large files for good, in every commit; the Hub rewrites history without them."""
        found = self._call(lambda: [f for f in self._api.list_lfs_files(self.name) if f.oid in shas])
        if found:
            self._call(lambda: self._api.permanently_delete_lfs_files(self.name, found))

    def _call(self, call: Callable[[], T]) -> T:
        from httpx2 import HTTPError  # noqa: PLC0415  the client of huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

        try:
            return call()
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            answers = [e for e in (error, error.__cause__) if isinstance(e, HfHubHTTPError)]
            status = answers[0].response.status_code if answers else 0
            problem = _message(error, answers[0].server_message if answers else "", status)
        raise PublishFailed(self.url, problem.replace(self._token, "***"), status)


def _message(error: Exception, answer: str | None, status: int) -> str:
    """The error in one line."""
    text = " ".join(str(error).split())
    if not status and isinstance(error, ValueError | RuntimeError):
        return text
    if not status:
        return f"the Hub did not answer ({type(error).__name__}: {text})"
    if isinstance(error, ValueError) and "metadata" in text:  # of the card, with all its faults
        return text
    return f"the Hub answered {status} ({answer or text})"
