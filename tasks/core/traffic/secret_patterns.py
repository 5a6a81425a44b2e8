"""Patterns of keys, tokens and passwords: by issuer prefix, by a name before them, by randomness."""

import base64
import binascii
import re
from collections.abc import Iterator

Span = tuple[int, int]

BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----"
    r".*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----|\Z)",
    re.DOTALL,
)
ISSUED = (  # after public descriptions of the issuers
    r"(?:sk|pk|rk)-(?=[\w-]{0,80}\d)[\w-]{16,}",  # OpenAI, Anthropic and others like them
    r"(?:sk|pk|rk)_(?:live|test)_\w{8,}",  # Stripe
    r"whsec_[\w+/=]{16,}",
    r"gh[oprsu]_\w{16,}",  # GitHub
    r"github_pat_\w{16,}",
    r"gl[a-z]{2,5}-[\w.-]{16,}",  # GitLab
    r"(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}",  # AWS
    r"(?:xox[a-z]|xapp)-[\w-]{10,}",  # Slack
    r"AIza[\w-]{30,}",  # Google
    r"ya29\.[\w-]{16,}",
    r"GOCSPX-[\w-]{16,}",
    r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*",  # JSON web tokens
    r"SG\.[\w-]{10,}\.[\w-]{10,}",  # SendGrid
    r"pypi-[\w-]{16,}",
    r"(?:hf|npm|dyw|gsk|glsa|shpat|shpss|dop_v1|dckr_pat|lin_api|rubygems|ntn|r8|figd|sbp|pat|nfp|fo1)_(?=\w{0,80}\d)"
    r"[\w-]{16,}",
    r"(?:nvapi|xai|pplx|tvly|sntrys|tskey|PMAK|dapi|key|sq0[a-z]{3}|EAAA)-?(?=[\w-]{0,80}\d)[A-Za-z0-9_-]{24,}",
    r"hv[sbr]\.[\w-]{16,}",  # HashiCorp Vault
    r"AGE-SECRET-KEY-1[A-Z0-9]{20,}",
    r"(?:AC|SK)[0-9a-f]{32}",  # Twilio
    r"\d{8,10}:[\w-]{35}",  # Telegram's bots
    r"[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}",  # Discord's bots
    r"0x[0-9a-fA-F]{64}",  # Ethereum
)
PREFIXED = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(ISSUED)})(?![A-Za-z0-9])")
NAMED = re.compile(
    r"(?<![a-z0-9])(?:(pass(?:word|wd|phrase|code)|pwd)"
    r"|(?:secret|token|api[ _-]?key|(?:access|secret|private|account|auth|client|signing)[ _-]?(?:key|secret|token)))"
    r"(?:[_-](?:id|key|value))?[\"']?\s{0,2}([=:]|\bis\b)\s{0,2}[\"']?([^\s\"',;)]{4,})",
    re.IGNORECASE,
)
SHOWN = re.compile(r"(?<![a-z])(bearer|basic)\s{1,3}([a-z0-9._~+/=-]{12,})", re.IGNORECASE)
RUN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{32,}(?![A-Za-z0-9])")


def find_keys(text: str) -> Iterator[Span]:
    """Private keys, tokens with a prefix, values that follow a name such as `api_key=`, long random strings."""
    yield from (found.span() for found in BLOCK.finditer(text))
    yield from (found.span() for found in PREFIXED.finditer(text))
    yield from (found.span(3) for found in NAMED.finditer(text) if _is_value(*found.groups()))
    yield from (found.span(2) for found in SHOWN.finditer(text) if _is_credential(found[1], found[2]))
    yield from (found.span() for found in RUN.finditer(text) if _is_random(found[0]))


def _is_value(password: str | None, sign: str, value: str) -> bool:
    """Whether what follows a name is a secret: "token: adire_style" and "secret: 1990s" name no key."""
    digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
    if password:
        return sign in "=:" or digits > 0
    return bool(letters) and ((digits >= 2 and len(value) >= 8) or (digits > 0 and len(value) >= 20))


def _is_credential(scheme: str, value: str) -> bool:
    if scheme.lower() == "bearer":
        return any(map(str.isdigit, value))
    try:
        return b":" in base64.b64decode(value, validate=True)
    except binascii.Error:
        return False


def _is_random(run: str) -> bool:
    """Whether 32 letters and digits or more are no word: hexadecimal, or of both cases with digits all over."""
    groups = len(re.findall(r"\d+", run))
    if re.fullmatch(r"[0-9a-f]+|[0-9A-F]+", run):
        return groups >= 3 and not run.isdigit()
    return groups >= 3 and run != run.lower() and run != run.upper()
