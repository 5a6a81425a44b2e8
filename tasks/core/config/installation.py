"""The settings of an installation: one class, prefix `DYEWORKS_`, defaults for a laptop."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).parents[3]
EMBEDDED = "embedded"
GPU_LIMIT = "dyeworks-gpu"  # Prefect's global concurrency limit by which evaluations take turns
EMBEDDED_FOLDER = ROOT / "infra" / "base" / "model"


class Settings(BaseSettings):
    """Every setting is an environment variable: its name in capitals behind `DYEWORKS_`."""

    model_config = SettingsConfigDict(env_prefix="DYEWORKS_", extra="ignore")

    store: str = Field("build/store", description="Folder or s3://bucket/prefix that holds all data and models.")
    model: str = Field("adire", description="Name of the model that is trained and served.")
    dataset: str = Field("adire", description="Name of the dataset; uploads go to uploads/<dataset>/ in the store.")
    preset: str = Field(
        EMBEDDED,
        description="Run specifications: embedded, founding, fast-gpu, sdxl, or the path of a YAML file of one's own.",
    )
    base_model: str = Field(
        EMBEDDED,
        description="Base model, Stable Diffusion 1, 2 or XL: embedded, a diffusers folder, or a Hub id, optional "
        "@revision.",
    )
    clip: str = Field(
        EMBEDDED,
        description="Scorer, prompt encoder: embedded, open_clip's MODEL/TAG, hf-hub:NAME or local-dir:PATH.",
    )
    trigger: str = Field("adire_style", description="Trigger word of the style.")
    class_noun: str = Field(
        "indigo resist-dyed cloth", description="Stands for the trigger where the scorer is a public CLIP."
    )
    device: str = Field("", description="Torch device; empty means cuda where there is one, else cpu.")
    cache: Path = Field(Path("build/cache"), description="Local folder for what can be computed again.")
    dask: str = Field("", description="Address of a Dask scheduler that embeds large windows; empty: this machine.")
    clock: str = Field("", description="File with a number of seconds that the clock is ahead; for demos and tests.")
    webhook_token: SecretStr = Field(
        SecretStr(""), description="Bearer token of the upload webhook; empty refuses all."
    )
    session_key: SecretStr = Field(
        SecretStr("change-me"), description="Key of the hash that stands for a visitor's session in the prompt log."
    )
    trusted_addresses: str = Field(
        "", description="Addresses and networks (comma-separated) whose sessions all count: a backend of one's own."
    )
    proxies: str = Field(
        "", description="Addresses of proxies (comma-separated) whose X-Forwarded headers are believed; empty: none."
    )
    render_steps: int = Field(12, ge=1, description="Denoising steps of a picture in the storefront.")
    render_guidance: float = Field(2.0, ge=1, description="Guidance scale of a picture in the storefront.")
    render_batch: int = Field(16, ge=1, description="Requests that the storefront renders at once, at most.")
    poll_seconds: float = Field(2.0, gt=0, description="How often the storefront looks for a new champion.")
    publish_store: str = Field("", description="Another store that releases are published to; empty: none.")
    hub_repo: str = Field("", description="Hugging Face Hub model, OWNER/NAME, that releases are published to.")
    hub_private: bool = Field(False, description="Whether that model is made private when it is created.")
    hub_token: SecretStr = Field(SecretStr(""), description="Token that may write to it; HF_TOKEN where empty.")
    hub_secret: str = Field("", description="Prefect Secret block that holds that token instead.")
    licence: str = Field("creativeml-openrail-m", description="Licence of the adapters, as the Hub names it.")
    notify_block: str = Field("", description="Prefect notification block, TYPE/NAME, that is told of decisions.")
    notify_webhook: SecretStr = Field(SecretStr(""), description="URL that decisions are posted to as JSON.")
    log_seconds: float = Field(
        1.0, gt=0, description="How long the storefront gathers prompt-log lines for one object."
    )


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read from the environment once."""
    return Settings()
