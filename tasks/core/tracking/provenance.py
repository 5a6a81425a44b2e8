"""Which code made something: the commit of the checkout, and the versions of dyeworks and of what it stands on."""

import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

from tasks.core.config.installation import ROOT

PACKAGES = ("torch", "diffusers", "peft", "transformers", "accelerate", "numpy")


def provenance(root: Path = ROOT) -> dict[str, str]:
    """Tags of a run: `mlflow.source.git.commit` only in a checkout, the versions everywhere."""
    commit = git_commit(root)
    return (
        ({"mlflow.source.git.commit": commit} if commit else {})
        | {"dyeworks.version": own_version(root)}
        | {f"package.{name}": metadata.version(name) for name in PACKAGES}
    )


def git_commit(root: Path) -> str:
    """The commit that is checked out at `root`, with `-dirty` if files differ from it; empty outside a checkout."""
    line = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def own_version(root: Path) -> str:
    """The version that pyproject.toml states; that of the installed package where there is none."""
    try:
        version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    except FileNotFoundError:
        try:
            version = metadata.version("dyeworks")
        except metadata.PackageNotFoundError:
            version = "unknown"
    return version
