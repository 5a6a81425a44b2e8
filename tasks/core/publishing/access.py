"""Whether a token may publish to a model of the Hub, asked before anything is uploaded."""

from tasks.core.errors import PublishFailed, PublishRefused
from tasks.core.publishing.repository import Repository, Who

WRITE = "repo.write"  # the permission of a fine-grained token
ABSENT = frozenset({401, 404})  # the Hub does not tell a private model from none
UNANSWERED = 0


def check_name(name: str) -> None:
    """Raise PublishRefused unless the Hub can have a model of this name."""
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415  late: only who publishes there needs it
    from huggingface_hub.utils._validators import validate_repo_id  # noqa: PLC0415

    problem = "" if name.count("/") == 1 else "publishing.hub_repo of the model must be OWNER/NAME"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        problem = problem or f"publishing.hub_repo of the model: {error}"
    if problem:
        raise PublishRefused(f"the Hub's {name!r}", problem)


def check_token(name: str, token: str) -> None:
    """Raise PublishRefused where no request could carry the token; it is not told."""
    if not token:
        problem = "there is no token; set DYEWORKS_HUB_TOKEN, HF_TOKEN or DYEWORKS_HUB_SECRET"
        raise PublishRefused(f"the Hub's {name}", problem)
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise PublishRefused(f"the Hub's {name}", "the token holds a space or a strange character; set it again")


def check_access(repository: Repository, private: bool) -> bool:
    """Whether the model is there; raises PublishRefused unless the token may write to it, or make it."""
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
        problem = "it is public and publishing.hub_private of the model asks for a private model; change one of them"
        raise PublishRefused(repository.url, problem)
    return True


def _lacks(who: Who, owner: str, name: str) -> str:
    """What keeps a token from writing; empty when nothing does."""
    roles = {org.name: org.role for org in who.orgs}
    if who.role == "read":
        return f"the token of {who.name} may only read; make one that may write, on the Hub under Access Tokens"
    if owner != who.name and owner not in roles:
        return f"{who.name}, whose token it is, is no member of {owner}"
    if roles.get(owner) == "read":
        return f"{who.name} may only read in {owner}; ask for the role contributor or write"
    if who.role == "fineGrained" and not who.may(WRITE, {owner, name}):
        return f"the fine-grained token of {who.name} may not write to repositories of {owner}; give it that permission"
    return ""


def _advice(error: PublishFailed) -> str:
    if error.status == UNANSWERED:
        return f"{error.problem}; check the network and HF_ENDPOINT"
    return {
        401: "the Hub does not know the token (401); it may have been revoked or have expired, make a new one",
        403: f"the token may not write there: {error.problem}",
    }.get(error.status, error.problem)
