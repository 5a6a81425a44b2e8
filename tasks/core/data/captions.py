"""Captions that lie beside uploaded pictures.

A .txt of the picture's name, or else a line of a metadata.jsonl (Hugging Face's imagefolder), in the picture's folder
or one above it: {"file_name": "indigo/a.png", "text": "large rings"}.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import CaptionsUnusable, PictureRefused
from tasks.core.store import Store

METADATA = "metadata.jsonl"


class CaptionLine(BaseModel):
    """A line of a metadata.jsonl; what else it holds is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    file_name: str = Field(min_length=1, description="relative to the folder of the metadata.jsonl")
    text: str


class Captions:
    """What is said of a dataset's pictures; `remarks` names lines of a metadata.jsonl that say nothing of any."""

    def __init__(self, store: Store, dataset: str, names: list[str], pictures: list[str]) -> None:
        """Read every metadata.jsonl among the uploads, of which some are pictures; raises CaptionsUnusable."""
        self.store, self.folder = store, f"uploads/{dataset}/"
        self.names, self.pictures = frozenset(names), frozenset(pictures)
        self.told: dict[str, str] = {}
        self.remarks: list[str] = []
        files = [name for name in names if PurePosixPath(name).name == METADATA]
        nearest_first = sorted(files, key=lambda name: -name.count("/"))
        faults = [fault for name in nearest_first for fault in self._read(name)]
        if faults:
            raise CaptionsUnusable(dataset, faults)

    def of(self, name: str) -> str:
        """The caption of a picture, "" without one; raises PictureRefused when its .txt is no text."""
        beside = str(PurePosixPath(name).with_suffix(".txt"))
        try:
            own = self.store.read(self.folder + beside).decode() if beside in self.names else ""
        except UnicodeDecodeError as error:
            raise PictureRefused(name, f"its caption file is not UTF-8 text: {error}") from error
        return " ".join(own.split()) or self.told.get(name, "")

    def _read(self, name: str) -> Iterator[str]:
        lines = self.store.read(self.folder + name).removeprefix(BOM_UTF8).splitlines()
        for number, line in enumerate(lines, 1):
            place = f"{name} line {number}"
            try:
                if line.strip():
                    self._take(place, PurePosixPath(name).parent, CaptionLine.model_validate_json(line.decode()))
            except UnicodeDecodeError:
                yield f"{place}: is not UTF-8 text"
            except ValidationError as error:
                yield f"{place}: {_reason(error)}"

    def _take(self, place: str, folder: PurePosixPath, line: CaptionLine) -> None:
        picture = str(folder / line.file_name)
        if picture not in self.pictures:
            self.remarks.append(f"{place}: names {picture}, and there is no such picture")
        elif picture in self.told:
            self.remarks.append(f"{place}: names {picture}, which has its caption already")
        else:
            self.told[picture] = " ".join(line.text.split())


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    place = "".join(f"{part}: " for part in first["loc"])
    return place + first["msg"].replace("at line 1 column", "at column")
