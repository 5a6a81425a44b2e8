"""Croissant 1.0, the description of a dataset for machines: each file with its hash, and the records in them.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

JSON_LINES = "application/jsonlines"
TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
CONTEXT: dict[str, object] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in TERMS},
}


@dataclass(frozen=True)
class ExportedFile:
    """A file of an export."""

    path: str  # in the folder
    kind: str  # MIME type
    sha256: str


@dataclass(frozen=True)
class ExportFacts:
    """What is said about an exported version as a whole."""

    dataset: str
    version: str
    created: datetime
    licence: str
    description: str


def describe(facts: ExportFacts, files: Sequence[ExportedFile]) -> dict[str, object]:
    """The description of an image folder: pictures, and tables of their captions that name them by file name."""
    pictures = [file for file in files if file.kind.startswith("image/")]
    endings = sorted({file.path.rpartition(".")[2] for file in pictures})
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts.dataset,
        "description": facts.description,
        "license": facts.licence,
        "version": "1.0.0",
        "alternateName": facts.version,
        "datePublished": facts.created.isoformat(),
        "distribution": [
            *map(_object, files),
            _set("pictures", sorted({file.kind for file in pictures}), [f"*/*.{ending}" for ending in endings]),
            _set("captions", [JSON_LINES], ["*/metadata.jsonl"]),
        ],
        "recordSet": [_records()],
    }


def _object(file: ExportedFile) -> dict[str, object]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path.rpartition("/")[2],
        "contentUrl": file.path,
        "encodingFormat": file.kind,
        "sha256": file.sha256,
    }


def _set(name: str, kinds: list[str], patterns: list[str]) -> dict[str, object]:
    return {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": kinds, "includes": patterns}


def _records() -> dict[str, object]:
    names = _field("file_name", "sc:Text", "captions", {"column": "file_name"})
    names["references"] = {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": "filename"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "captioned",
        "name": "captioned",
        "description": "Each picture with its caption.",
        "field": [
            names,
            _field("image", "sc:ImageObject", "pictures", {"fileProperty": "content"}),
            _field("caption", "sc:Text", "captions", {"column": "text"}),
        ],
    }


def _field(name: str, kind: str, files: str, extract: dict[str, str]) -> dict[str, object]:
    return {
        "@type": "cr:Field",
        "@id": f"captioned/{name}",
        "name": name,
        "dataType": kind,
        "source": {"fileSet": {"@id": files}, "extract": extract},
    }
