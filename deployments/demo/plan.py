"""The scale of the demo, and its progress, which survives a kill."""

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, Field


class Scale(BaseModel):
    """The scale of the demo; the tests use a smaller one."""

    first_pictures: int = 100
    new_pictures: int = 48
    history: int = Field(6000, description="Imported prompt-log lines before the demo.")
    shifted: int = Field(6000, description="Imported prompt-log lines after the shift.")
    window: int = Field(350, description="Requests rendered in each window; a check needs 200 independent ones.")
    steps: int = Field(3, description="Denoising steps of these requests.")
    clients: int = Field(32, description="Concurrent clients.")


class DemoProgress(BaseModel):
    """The completed steps and their times; saved after every step."""

    data: str = ""
    finished: bool = False
    elapsed: float = 0.0
    done: list[str] = []
    seconds: dict[str, float] = {}
    timeline: list[tuple[float, str]] = []
    psi: dict[str, float] = {}
    spent: dict[str, float] = {}  # seconds, by what they were spent on
    delays: dict[str, list[float]] = {}  # seconds until runs began
    begun: dict[str, datetime] = {}

    @classmethod
    def load(cls, path: Path) -> "DemoProgress":
        """The progress of an earlier attempt, or a new one."""
        return cls.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else cls()

    def save(self, path: Path) -> None:
        """Write the file atomically, by a rename."""
        part = path.with_suffix(".part")
        part.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        part.replace(path)
