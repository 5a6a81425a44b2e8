"""How large the demo is, and what is known of it after a kill."""

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, Field


class Scale(BaseModel):
    """The numbers of the demo; the tests run a smaller one."""

    first_pictures: int = 100
    new_pictures: int = 48
    history: int = Field(6000, description="Imported prompt-log lines before the demo.")
    shifted: int = Field(6000, description="Imported lines after the taste has changed.")
    window: int = Field(400, description="Requests that are really rendered in each window.")
    steps: int = Field(4, description="Denoising steps of those.")
    clients: int = Field(32, description="Visitors that ask at the same time.")


class Diary(BaseModel):
    """What was done, and when; saved after every step."""

    data: str = ""
    finished: bool = False
    elapsed: float = 0.0
    done: list[str] = []
    seconds: dict[str, float] = {}
    timeline: list[tuple[float, str]] = []
    psi: dict[str, float] = {}
    begun: dict[str, datetime] = {}

    @classmethod
    def load(cls, path: Path) -> "Diary":
        """The diary of an earlier attempt, or a new one."""
        return cls.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else cls()

    def save(self, path: Path) -> None:
        """Write the diary, by one rename."""
        part = path.with_suffix(".part")
        part.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        part.replace(path)
