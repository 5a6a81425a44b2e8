"""A model repository on the Hugging Face Hub: what publishing asks of it.

Whatever its client raises becomes PublishFailed, told without the token and with no error of the client behind it:
those hold the request with its headers.
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
    """A file as the Hub tells of it: a large one by its sha256, any other by git's name of its content."""

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
    """Whose token it is, and what it may do."""

    name: str
    orgs: tuple[_Organisation, ...] = ()
    auth: _Auth = _Auth()

    @property
    def role(self) -> str:
        """What the token may do: read, write, or fineGrained; empty where the Hub does not tell."""
        return self.auth.token.role if self.auth.token else ""

    def may(self, permission: str, entities: set[str]) -> bool:
        """Whether a fine-grained token has a permission for one of these owners and repositories."""
        fine = self.auth.token.fine_grained if self.auth.token else None
        return any(s.entity.name in entities and permission in s.permissions for s in (fine.scoped if fine else ()))


class Repository:
    """A model of the Hub, asked with a token; each method raises PublishFailed."""

    def __init__(self, name: str, token: str, endpoint: str) -> None:
        from huggingface_hub import HfApi  # noqa: PLC0415  late: only who publishes there needs it
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

        disable_progress_bars()
        self.name, self.url = name, f"{endpoint.rstrip('/')}/{name}"
        self._token, self._api = token, HfApi(endpoint=endpoint, token=token)

    def who(self) -> Who:
        """Whose token it is, asked once: the Hub limits this question strictly."""
        return Who.model_validate(self._ask(lambda: self._api.whoami(cache=True)))

    def is_private(self) -> bool:
        """Whether others cannot see it; status 404 or 401 where there is none."""
        return bool(self._ask(lambda: self._api.model_info(self.name)).private)

    def check_writable(self) -> None:
        """Raise unless the token may write to it."""
        self._ask(lambda: self._api.auth_check(self.name, write=True))

    def create(self, private: bool) -> None:
        """Make it, unless there is one; public unless asked or unless its owner's default says otherwise."""
        self._ask(lambda: self._api.create_repo(self.name, private=private or None, exist_ok=True))

    def refs(self) -> Refs:
        """Where main and the tags are."""
        found = self._ask(lambda: self._api.list_repo_refs(self.name))
        main = next(ref.target_commit for ref in found.branches if ref.name == "main")
        return Refs(main, {ref.name: ref.target_commit for ref in found.tags})

    def titles(self) -> list[str]:
        """Those of the commits of main, newest first."""
        return [commit.title for commit in self._ask(lambda: self._api.list_repo_commits(self.name))]

    def tree(self, revision: str) -> dict[str, Remote]:
        """Every file of a revision but the Hub's own."""
        from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

        found = self._ask(lambda: list(self._api.list_repo_tree(self.name, revision=revision, recursive=True)))
        files = [f for f in found if isinstance(f, RepoFile) and f.path != KEPT]
        return {f.path: Remote(f.lfs.sha256 if f.lfs else "", f.blob_id) for f in files}

    def commit(self, title: str, add: Mapping[str, Path | bytes], delete: Iterable[str], parent: str) -> str:
        """One commit on main, all or nothing; status 412 when main is no longer `parent`."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete  # noqa: PLC0415

        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path, source) for path, source in add.items()),
            *(CommitOperationDelete(path, is_folder=False) for path in delete),
        ]
        done = self._ask(
            lambda: self._api.create_commit(self.name, operations, commit_message=title, parent_commit=parent)
        )
        return done.oid

    def tag(self, name: str, commit: str) -> None:
        """Name a commit; status 409 when there is such a tag."""
        self._ask(lambda: self._api.create_tag(self.name, tag=name, revision=commit))

    def untag(self, name: str) -> None:
        """Remove a tag."""
        self._ask(lambda: self._api.delete_tag(self.name, tag=name))

    def purge(self, shas: frozenset[str]) -> None:
        """Delete large files for good, in every commit; the Hub rewrites history without them."""
        found = self._ask(lambda: [f for f in self._api.list_lfs_files(self.name) if f.oid in shas])
        if found:
            self._ask(lambda: self._api.permanently_delete_lfs_files(self.name, found))

    def _ask(self, call: Callable[[], T]) -> T:
        from httpx2 import HTTPError  # noqa: PLC0415  what huggingface_hub asks with
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

        try:
            return call()
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            answers = [e for e in (error, error.__cause__) if isinstance(e, HfHubHTTPError)]
            status = answers[0].response.status_code if answers else 0
            problem = _told(error, answers[0].server_message if answers else "", status)
        raise PublishFailed(self.url, problem.replace(self._token, "***"), status)


def _told(error: Exception, answer: str | None, status: int) -> str:
    """One line; the client's own messages have many."""
    text = " ".join(str(error).split())
    if not status and isinstance(error, ValueError | RuntimeError):
        return text
    if not status:
        return f"the Hub did not answer ({type(error).__name__}: {text})"
    if isinstance(error, ValueError) and "metadata" in text:  # of the card, with all its faults
        return text
    return f"the Hub answered {status} ({answer or text})"
