"""The files of a dataset sorted by name: pictures, captions, and files that are left out."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.core.data.remarks import counted, remark, shown

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".heic", ".heif", ".avif")
TEXTS = (".txt", ".caption")  # endings of a file with the caption of one picture
TABLES = ("metadata.jsonl", "metadata.csv", "metadata.json", "meta_cap.json")  # with those of many; the last: kohya's
JUNK = {"__macosx", "__pycache__", "@eadir", "@__thumb", "@recycle", "#recycle", "#snapshot", "$recycle.bin"}
JUNK |= {"system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini"}
READY = "_READY"  # an empty file by which whoever uploads says that all is there
REPEATS = re.compile(r"\d{1,3}_.")  # kohya's folders: how often a picture is drawn, and its class


@dataclass(frozen=True)
class Uploads:
    """Names of files, sorted, and remarks on those that are left out."""

    pictures: tuple[str, ...]
    texts: tuple[str, ...]
    tables: tuple[str, ...]
    remarks: tuple[str, ...]


def sort_uploads(names: Iterable[str], odd: Iterable[str]) -> Uploads:
    """Sort files by their names; `odd` are those that a store cannot hold."""
    kinds: dict[str, list[str]] = {"picture": [], "text": [], "table": [], "junk": [], "other": []}
    for name in sorted(name for name in names if not is_ready(name)):
        kinds[_kind(name)].append(name)
    left = [
        *remark(sorted(odd), "name", "left out that no store can hold, or of linked or locked folders"),
        *remark(kinds["junk"], "file", "left out as hidden, or as a leftover of a program"),
        *_others(kinds["other"]),
        *_repeats(kinds["picture"]),
    ]
    return Uploads(tuple(kinds["picture"]), tuple(kinds["text"]), tuple(kinds["table"]), tuple(left))


def may_enter(name: str) -> bool:
    """Whether a file may be a picture or a caption, by its name."""
    return not is_ready(name) and not reason_left_out(name)


def reason_left_out(name: str) -> str:
    """Why an ingest leaves out a file of this name; empty where it takes it."""
    kind = _kind(name)
    if kind == "junk":
        return "it is hidden, or a leftover of a program"
    taken = ", ".join((*SUFFIXES, *TEXTS, *TABLES))
    return f"it is none of the kinds that an ingest takes: {taken}" if kind == "other" else ""


def is_ready(name: str) -> bool:
    """Whether this is the name of the file that ends an upload."""
    return name.rpartition("/")[2] == READY


def suffix_of(name: str) -> str:
    """The suffix in lower case; trailing blanks, which some programs add, do not count."""
    return PurePosixPath(name).suffix.rstrip().lower()


def _kind(name: str) -> str:
    parts = name.casefold().split("/")
    if any(part.startswith(".") or part in JUNK for part in parts):
        return "junk"
    if parts[-1] in TABLES:
        return "table"
    suffix = suffix_of(name)
    return "picture" if suffix in SUFFIXES else "text" if suffix in TEXTS else "other"


def _others(names: list[str]) -> list[str]:
    if not names:
        return []
    kinds = Counter(suffix_of(name) or "without ending" for name in names).most_common()
    shares = [f"{count:,} {shown(kind)}" for kind, count in kinds[:8]]
    rest = sum(count for _, count in kinds[8:])
    more = [f"{rest:,} of more kinds"] if rest else []
    return [f"{counted(len(names), 'file')} of other kinds left out: {', '.join(shares + more)}"]


def _repeats(pictures: list[str]) -> list[str]:
    within = [name for name in pictures if any(REPEATS.match(part) for part in name.split("/")[:-1])]
    folders = sorted({name.rpartition("/")[0] for name in within})
    what = f"with {counted(len(within), 'picture')}, named as for kohya's trainer, whose repeats and class are ignored"
    return remark(folders, "folder", what)
