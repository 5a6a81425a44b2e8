"""The settings of an installation: one class, prefix `DYEWORKS_`, defaults for a laptop.

What belongs to a model is not among them: see `tasks.core.config.model`.
"""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core.errors import SettingError

ROOT = Path(__file__).parents[3]
GPU_LIMIT = "dyeworks-gpu"  # Prefect's global concurrency limit by which evaluations take turns


MOVED = {  # settings of earlier versions that belong to a model, and the fields of its file that replace them
    "MODEL": "name",
    "DATASET": "datasets",
    "PRESET": "preset",
    "BASE_MODEL": "base",
    "CLIP": "scorer",
    "TRIGGER": "trigger",
    "CLASS_NOUN": "class_noun",
    "RENDER_STEPS": "serving.steps",
    "RENDER_GUIDANCE": "serving.guidance",
    "PUBLISH_STORE": "publishing.store",
    "HUB_REPO": "publishing.hub_repo",
    "HUB_PRIVATE": "publishing.hub_private",
    "LICENCE": "licence",
    "NOTIFY_BLOCK": "notify_block",
}


class Settings(BaseSettings):
    """Environment variables of an installation: the name in capitals behind `DYEWORKS_`."""

    model_config = SettingsConfigDict(env_prefix="DYEWORKS_", extra="ignore")

    store: str = Field(
        "build/store",
        min_length=1,
        description="Folder or s3://bucket/prefix that holds all data and models; the default lies in the checkout.",
    )
    device: str = Field("", description="Torch device; empty means cuda where there is one, else cpu.")
    cache: Path = Field(
        Path("build/cache"),
        description="Local folder for what can be computed again; the default lies in the checkout.",
    )
    dask: str = Field(
        "",
        description="Address (tcp://…) of a Dask scheduler whose machines embed large windows; "
        "needs the group `scale`.",
    )
    clock: str = Field("", description="File with a number of seconds that the clock is ahead; for demos and tests.")
    webhook_token: SecretStr = Field(
        SecretStr(""),
        description="Tokens (comma-separated, all valid) with which object stores notify the gateway; empty: API keys "
        "alone.",
    )
    webhook_secrets: SecretStr = Field(
        SecretStr(""),
        description="Secrets `whsec_...` (comma-separated, all valid) that sign messages to /hooks/standard; empty "
        "refuses all.",
    )
    sns_topics: str = Field(
        "",
        description="ARNs (comma-separated) of the topics of SNS whose messages count, and whose subscriptions are "
        "confirmed; empty refuses all.",
    )
    upload_quiet_seconds: float = Field(
        10.0,
        ge=0,
        description="How long a dataset has no new uploads before they are ingested at once; a `_READY` ends the wait.",
    )
    upload_longest_seconds: float = Field(
        120.0, gt=0, description="How long new uploads wait to be ingested, at most, while others follow."
    )
    upload_mib: int = Field(100, ge=1, description="Size of an uploaded file in MiB, at most.")
    archive_mib: int = Field(2048, ge=1, description="Size of an uploaded zip archive in MiB, at most.")
    gateway_url: str = Field("", description="URL of the gateway for `dyeworks upload`; empty: that of `dyeworks up`.")
    upload_key: SecretStr = Field(
        SecretStr(""), description="API key for `dyeworks upload`; empty: the one that `dyeworks up` has created."
    )
    session_key: SecretStr = Field(
        SecretStr("change-me"),
        description="Key of the hash that stands for a visitor's session in the prompt log, and of session cookies.",
    )
    trusted_addresses: str = Field(
        "", description="Addresses and networks (comma-separated) whose sessions all count: a backend of one's own."
    )
    proxies: str = Field(
        "", description="Addresses of proxies (comma-separated) whose X-Forwarded headers are believed; empty: none."
    )
    limit_key: str = Field("600/minute", description="Pictures that an API key may ask for; empty: no limit.")
    limit_address: str = Field(
        "60/minute",
        description="Pictures for an address (of IPv6: a network of 64 bits) without a key; trusted addresses have no "
        "such limit.",
    )
    limit_session: str = Field("30/minute", description="Pictures for one visitor's session.")
    render_batch: int = Field(16, ge=1, description="Requests that the storefront renders at once, at most.")
    adapters: int = Field(
        8, ge=1, description="Releases that the storefront holds in memory beside those of the champions."
    )
    model_aliases: str = Field(
        "", description="Other names of models in the API, comma-separated: `gpt-image-1=adire`; empty: none."
    )
    poll_seconds: float = Field(2.0, gt=0, description="How often the storefront looks for a new champion.")
    hub_token: SecretStr = Field(SecretStr(""), description="Token that may write to the Hub; HF_TOKEN where empty.")
    hub_secret: str = Field("", description="Prefect Secret block that holds that token instead.")
    caption_key: SecretStr = Field(
        SecretStr(""), description="Bearer token for the vision servers that make captions; empty: none is sent."
    )
    notify_webhook: SecretStr = Field(
        SecretStr(""), description="URL that promotions, refusals, roll-backs and withdrawals are posted to as JSON."
    )
    log_seconds: float = Field(
        60.0, gt=0, description="How long the storefront gathers lines of its logs for one object, if there are few."
    )
    spool: str = Field(
        "", description="Local folder for lines that the store does not have yet; empty: `spool` beside the cache."
    )
    outbox: SecretStr = Field(
        SecretStr(""),
        description="Database of the uploads that have arrived, sqlite:///PATH or postgresql://…; empty: `outbox.db` "
        "beside the cache.",
    )

    safety_checker: str = Field(
        "CompVis/stable-diffusion-safety-checker@f37dfba70d35a43a32de8e67c52e68925175eeee",
        min_length=1,
        description="Safety checker of public bases whose folder holds none: a folder, or a Hub id, optionally with "
        "@revision; of safetensors alone. The default is the published checker at the commit that has such.",
    )

    @property
    def webhook_tokens(self) -> list[SecretStr]:
        """The valid tokens of object stores."""
        return _listed(self.webhook_token)

    @property
    def weakest_webhook_token(self) -> SecretStr:
        """The shortest of the valid tokens; an empty one where there is none."""
        return min(self.webhook_tokens, key=len, default=SecretStr(""))

    @property
    def valid_webhook_secrets(self) -> list[SecretStr]:
        """The secrets that sign messages to /hooks/standard."""
        return _listed(self.webhook_secrets)

    @property
    def spool_folder(self) -> Path:
        """The folder of all storefronts' lines that the store does not have yet."""
        return Path(self.spool) if self.spool else self.cache.absolute().parent / "spool"

    @property
    def outbox_url(self) -> str:
        """The URL of the database of the uploads that have arrived."""
        return self.outbox.get_secret_value() or f"sqlite:///{self.cache.absolute().parent / 'outbox.db'}"

    @model_validator(mode="after")
    def _place_defaults(self) -> Self:
        """Processes with different working folders must find the same store."""
        places = {"store": str(ROOT / self.store), "cache": ROOT / self.cache}
        for name in places.keys() - self.model_fields_set:
            object.__setattr__(self, name, places[name])
        return self


def _listed(secret: SecretStr) -> list[SecretStr]:
    """The secrets of a comma-separated list."""
    return [SecretStr(part) for part in map(str.strip, secret.get_secret_value().split(",")) if part]


def read_settings() -> Settings:
    """The settings of the environment; raises SettingError for one that belongs to a model now."""
    for name, field in MOVED.items():
        if f"DYEWORKS_{name}" in os.environ:
            problem = f"belongs to a model now: set {field} in the model's file, and run `dyeworks models apply FILE`"
            raise SettingError(f"DYEWORKS_{name}", problem)
    return Settings()


def read_prefect_environment() -> dict[str, str]:
    """The variables of the environment that decide which Prefect server is used, with the user's home folder."""
    found = {"HOME": str(home)} if (home := _home()) else {}
    return found | {k: v for k, v in os.environ.items() if k.upper().startswith("PREFECT_") or k == "SSL_CERT_FILE"}


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # a container's user without one
        return None
