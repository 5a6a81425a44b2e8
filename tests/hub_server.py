"""A real HTTP server that speaks the Hub's protocol for models, as the client huggingface_hub uses it."""

import base64
import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import RLock
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_repos import LARGE, Account, Blob, Commit, Repo
from tests.hub_rules import faults
from tests.local_server import LocalServer

TOKEN = "hf_SecretOfTheTests"
DATE = "2026-01-01T00:00:00.000Z"
READS = frozenset({"GET", "HEAD"})
API, ID = "/api/models/", r"(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)"
REPO = API + ID


class Refusal(Exception):
    """An error response."""

    def __init__(self, status: int, message: str, code: str = "", **more: object) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error": message} | more
        self.headers = {"X-Error-Message": message} if message else {}
        if code:
            self.headers["X-Error-Code"] = code


@dataclass
class Call:
    """A received request."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    token: str
    parts: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)

    def __getitem__(self, part: str) -> str:
        return unquote(self.parts[part])


@dataclass
class Reply:
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class HubServer(LocalServer):
    """Stores repositories; `asked` lists the requests, `faults` the failures to inject, once each."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.repos: dict[str, Repo] = {}
        self.asked: list[str] = []
        self.writes: list[str] = []
        self.faults: dict[str, list[int]] = {}
        self.lost: list[str] = []  # requests processed without a response, once each
        self.damage: dict[str, bytes] = {}  # content stored in place of an uploaded file
        self.meanwhile: list[Callable[[], None]] = []  # callbacks before the next commits are processed
        self.lock = RLock()
        super().__init__(_handler(self))
        self.url = self.address

    def forget(self) -> None:
        """Reset the counters."""
        self.asked, self.writes = [], []

    def answer(self, call: Call) -> Reply:
        if self.meanwhile and re.fullmatch(ROUTES["commit"][1], call.path):
            self.meanwhile.pop(0)()  # the callback may call this server too
        with self.lock:
            return self._answer(call)

    def _answer(self, call: Call) -> Reply:
        for name, (method, pattern) in ROUTES.items():
            match = re.fullmatch(pattern, call.path)
            if match and call.method in method.split():
                self.asked.append(name)
                if call.method not in READS and name != "validate_yaml":
                    self.writes.append(name)
                if self.faults.get(name):
                    status = self.faults[name].pop(0)
                    raise Refusal(status, "", error=f"failed on demand, Bearer {call.token}")
                call.parts = match.groupdict()
                reply: Reply = getattr(self, name)(call)
                if name in self.lost:
                    self.lost.remove(name)
                    raise ConnectionResetError(name)
                return reply
        raise Refusal(404, f"no such address: {call.method} {call.path}")

    # account and repository

    def _account(self, call: Call) -> Account | None:
        if call.token and call.token not in self.accounts:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.accounts.get(call.token)

    def _repo(self, call: Call, write: bool = False) -> Repo:
        account, repo = self._account(call), self.repos.get(f"{call['owner']}/{call['name']}")
        if repo is None or (repo.private and not (account and account.may_read(call["owner"]))):
            raise Refusal(404 if account else 401, "Repository not found", "RepoNotFound")
        if write and not (account and account.may_write(call["owner"], call["name"])):
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        return repo

    def _commit(self, call: Call) -> Commit:
        commit = self._repo(call).at(call["revision"])
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {call['revision']}", "RevisionNotFound")
        return commit

    def whoami(self, call: Call) -> Reply:
        account = self._account(call)
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        return Reply(account.as_json())

    # repositories

    def create(self, call: Call) -> Reply:
        account, asked = self._account(call), call.json()
        owner, name = asked["organization"] or (account.user if account else ""), asked["name"]
        if account is None or not account.may_write(owner, name):
            raise Refusal(403, f'You don\'t have the rights to create a model under the namespace "{owner}".')
        url = f"{self.url}/{owner}/{name}"
        if f"{owner}/{name}" in self.repos:
            raise Refusal(409, "You already created this model repo", url=url)
        self.repos[f"{owner}/{name}"] = Repo(asked.get("visibility") == "private")
        return Reply({"url": url, "name": f"{owner}/{name}"})

    def info(self, call: Call) -> Reply:
        repo = self._repo(call)
        commit = self._commit(call) if call.parts.get("revision") else repo.head
        siblings = [{"rfilename": path} for path in commit.files]
        name = f"{call['owner']}/{call['name']}"
        return Reply({"id": name, "modelId": name, "sha": commit.id, "private": repo.private, "siblings": siblings})

    def auth_check(self, call: Call) -> Reply:
        self._repo(call, write=call.path.endswith("/write"))
        return Reply({})

    def refs(self, call: Call) -> Reply:
        repo = self._repo(call)
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": c} for t, c in repo.tags.items()]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.main}
        return Reply({"branches": [main], "converts": [], "tags": tags})

    def commits(self, call: Call) -> Reply:
        self._commit(call)
        log = self._repo(call).log(call["revision"])
        return Reply([{"id": c.id, "title": c.title, "message": "", "authors": [], "date": DATE} for c in log])

    def tree(self, call: Call) -> Reply:
        return Reply([blob.as_json(path) for path, blob in sorted(self._commit(call).files.items())])

    def paths_info(self, call: Call) -> Reply:
        files, asked = self._commit(call).files, parse_qs(call.body.decode())["paths"]
        return Reply([files[path].as_json(path) for path in asked if path in files])

    def resolve(self, call: Call) -> Reply:
        commit = self._commit(call)
        blob = commit.files.get(call["path"])
        if blob is None:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        headers = {"ETag": f'"{blob.sha256 if blob.lfs else blob.oid}"', "X-Repo-Commit": commit.id}
        if blob.lfs:
            headers |= {"X-Linked-Size": str(len(blob.data)), "X-Linked-ETag": headers["ETag"]}
        return Reply(blob.data, headers=headers)

    # changes

    def validate_yaml(self, call: Call) -> Reply:
        found = faults(call.json()["content"])
        if found:
            raise Refusal(400, "Invalid metadata", errors=[{"message": fault} for fault in found], warnings=[])
        return Reply({"errors": [], "warnings": []})

    def preupload(self, call: Call) -> Reply:
        repo, files = self._repo(call, write=True), []
        for asked in call.json()["files"]:
            path, there = asked["path"], repo.head.files.get(asked["path"])
            mode = "lfs" if _is_large(path, base64.b64decode(asked["sample"]), asked["size"]) else "regular"
            oid = {"oid": there.sha256 if there.lfs else there.oid} if there else {}
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **oid})
        return Reply({"files": files})

    def lfs_batch(self, call: Call) -> Reply:
        repo, objects = self._repo(call, write=True), []
        for asked in call.json()["objects"]:
            href = f"{self.url}/lfs/{call['owner']}/{call['name']}/{asked['oid']}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append(asked | ({} if asked["oid"] in repo.objects else {"actions": actions}))
        return Reply({"transfer": "basic", "objects": objects})

    def lfs_upload(self, call: Call) -> Reply:
        repo = self.repos[f"{call['owner']}/{call['name']}"]  # the URL alone authorises it
        if Blob(call.body).sha256 != call["oid"]:
            raise Refusal(400, "the content has another sha256")
        repo.objects[call["oid"]] = call.body
        return Reply()

    def lfs_verify(self, call: Call) -> Reply:
        asked = call.json()
        if len(self._repo(call, write=True).objects.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(422, "the content has another size")
        return Reply({})

    def commit(self, call: Call) -> Reply:
        repo = self._repo(call, write=True)
        header, *lines = [json.loads(line) for line in call.body.splitlines()]
        asked = header["value"]
        if asked.get("parentCommit", repo.main) != repo.main:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        adds = [line for line in lines if line["key"] in {"file", "lfsFile"}]
        content = {line["value"]["path"]: self._content(repo, line) for line in adds}
        gone = [line["value"]["path"] for line in lines if line["key"] == "deletedFile"]
        if any(path not in repo.head.files for path in gone):
            raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        made = repo.add(Commit(asked["summary"], repo.applied(lines, content), repo.main))
        url = f"{self.url}/{call['owner']}/{call['name']}/commit/{made.id}"
        return Reply({"success": True, "commitOid": made.id, "commitUrl": url})

    def _content(self, repo: Repo, line: dict[str, Any]) -> bytes:
        value = line["value"]
        if value["path"] in self.damage:
            return self.damage[value["path"]]
        if line["key"] == "file":
            return base64.b64decode(value["content"])
        if value["oid"] not in repo.objects:
            raise Refusal(400, f"{value['path']}: LFS object {value['oid']} was not uploaded")
        return repo.objects[value["oid"]]

    def tag(self, call: Call) -> Reply:
        repo, commit, name = self._repo(call, write=True), self._commit(call), call.json()["tag"]
        if name in repo.tags:
            raise Refusal(409, f"Tag {name} already exists")
        repo.tags[name] = commit.id
        return Reply({})

    def untag(self, call: Call) -> Reply:
        if self._repo(call, write=True).tags.pop(call["tag"], None) is None:
            raise Refusal(404, "Tag not found", "RevisionNotFound")
        return Reply({})

    def lfs_files(self, call: Call) -> Reply:
        repo = self._repo(call, write=True)
        names = {blob.sha256: path for c in repo.commits.values() for path, blob in c.files.items() if blob.lfs}
        files = {sha: {"fileOid": sha[::-1], "oid": sha, "size": len(data)} for sha, data in repo.objects.items()}
        return Reply([{**t, "filename": names.get(sha, ""), "pushedAt": DATE} for sha, t in files.items()])

    def lfs_delete(self, call: Call) -> Reply:
        repo, asked = self._repo(call, write=True), call.json()["deletions"]
        assert asked["rewriteHistory"], "else main refers to deleted files"
        repo.purge({sha[::-1] for sha in asked["sha"]})
        return Reply({})

    def squash(self, call: Call) -> Reply:
        self._repo(call, write=True).squash(call.json()["message"])
        return Reply({})


REV = r"(?P<revision>[^/]+)"
ROUTES = {  # by name of the handler: methods and path
    "whoami": ("GET", "/api/whoami-v2"),
    "create": ("POST", "/api/repos/create"),
    "validate_yaml": ("POST", "/api/validate-yaml"),
    "info": ("GET", f"{REPO}(/revision/{REV})?"),
    "auth_check": ("GET", f"{REPO}/auth-check(/write)?"),
    "refs": ("GET", f"{REPO}/refs"),
    "commits": ("GET", f"{REPO}/commits/{REV}"),
    "tree": ("GET", f"{REPO}/tree/{REV}"),
    "paths_info": ("POST", f"{REPO}/paths-info/{REV}"),
    "preupload": ("POST", f"{REPO}/preupload/{REV}"),
    "lfs_batch": ("POST", rf"/{ID}\.git/info/lfs/objects/batch"),
    "lfs_upload": ("PUT", f"/lfs/{ID}/(?P<oid>[0-9a-f]+)"),
    "lfs_verify": ("POST", f"/lfs/{ID}/(?P<oid>[0-9a-f]+)/verify"),
    "commit": ("POST", f"{REPO}/commit/main"),
    "tag": ("POST", f"{REPO}/tag/{REV}"),
    "untag": ("DELETE", f"{REPO}/tag/(?P<tag>[^/]+)"),
    "lfs_files": ("GET", f"{REPO}/lfs-files"),
    "lfs_delete": ("POST", f"{REPO}/lfs-files/batch"),
    "squash": ("POST", f"{REPO}/super-squash/main"),
    "resolve": ("GET HEAD", f"/{ID}/resolve/{REV}/(?P<path>.+)"),
}


def _is_large(path: str, sample: bytes, size: int) -> bool:
    """As the Hub decides: by .gitattributes, by size, and by binary content."""
    try:
        text = "\0" not in getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        text = False
    return path.endswith(".safetensors") or size > LARGE or not text


def _chunks(handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    while size := int(handler.rfile.readline(), 16):
        yield handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            chunked = self.headers.get("Transfer-Encoding") == "chunked"
            size = int(self.headers.get("Content-Length") or 0)
            body = b"".join(_chunks(self)) if chunked else self.rfile.read(size)
            url = urlsplit(self.path)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            call = Call(self.command, url.path, parse_qs(url.query), body, token)
            try:
                reply = hub.answer(call)
            except ConnectionResetError:  # disconnected before the response
                return
            except Refusal as refusal:
                reply = Reply(refusal.body, refusal.status, refusal.headers)
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(data)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Handler
