"""Whether a token may publish to a model of the Hub, checked before anything is uploaded."""

from tasks.core.errors import PublishFailed, PublishRefused
from tasks.core.publishing.repository import Repository, Who

WRITE = "repo.write"  # the permission of a fine-grained token
ABSENT = frozenset({401, 404})  # the Hub does not distinguish a private model from a missing one
UNANSWERED = 0


def check_name(name: str) -> None:
    """Raise PublishRefused unless the name is valid on the Hub."""
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415  lazy: only publishing to the Hub needs it
    from huggingface_hub.utils._validators import validate_repo_id  # noqa: PLC0415

    problem = "" if name.count("/") == 1 else "publishing.hub_repo of the model must be OWNER/NAME"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        problem = problem or f"publishing.hub_repo of the model: {error}"
    if problem:
        raise PublishRefused(f"the Hub's {name!r}", problem)


def check_token(name: str, token: str) -> None:
    """Raise PublishRefused for a token that no header can hold; the message does not contain it."""
    if not token:
        problem = "there is no token; set DYEWORKS_HUB_TOKEN, HF_TOKEN or DYEWORKS_HUB_SECRET"
        raise PublishRefused(f"the Hub's {name}", problem)
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise PublishRefused(f"the Hub's {name}", "the token contains a space or an invalid character; set it again")


def check_access(repository: Repository, private: bool) -> bool:
    """Whether the model exists; raises PublishRefused unless the token may write to or create it."""
    owner = repository.name.partition("/")[0]
    try:
        if problem := _lacks(repository.who(), owner, repository.name):
            raise PublishRefused(repository.url, problem)
        return _exists(repository, private)
    except PublishFailed as error:
        raise PublishRefused(repository.url, _advice(error)) from error


def _exists(repository: Repository, private: bool) -> bool:
    try:
        hidden = repository.is_private()
    except PublishFailed as error:
        if error.status in ABSENT:
            return False
        raise
    repository.check_writable()
    if private and not hidden:
        problem = "it is public and publishing.hub_private of the model requires a private one; change one of them"
        raise PublishRefused(repository.url, problem)
    return True


def _lacks(who: Who, owner: str, name: str) -> str:
    """Why a token may not write; empty if it may."""
    roles = {org.name: org.role for org in who.orgs}
    if who.role == "read":
        return f"the token of {who.name} may only read; create one with write access, on the Hub under Access Tokens"
    if owner != who.name and owner not in roles:
        return f"{who.name}, the owner of the token, is no member of {owner}"
    if roles.get(owner) == "read":
        return f"{who.name} may only read in {owner}; ask for the role contributor or write"
    if who.role == "fineGrained" and not who.may(WRITE, {owner, name}):
        return f"the fine-grained token of {who.name} may not write to repositories of {owner}; give it that permission"
    return ""


def _advice(error: PublishFailed) -> str:
    if error.status == UNANSWERED:
        return f"{error.problem}; check the network and HF_ENDPOINT"
    return {
        401: "the Hub rejected the token (401); it may have been revoked or have expired, create a new one",
        403: f"the token may not write there: {error.problem}",
    }.get(error.status, error.problem)
