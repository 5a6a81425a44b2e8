"""One interface to a folder or an S3 prefix, with conditional create and compare-and-swap in both."""

from pathlib import Path
from urllib.parse import unquote

from tasks.core.errors import StoreUnusable
from tasks.core.store.base import Listed, Store, delete_prefix, download_folder, is_key, upload_folder
from tasks.core.store.folder import FolderStore, walk
from tasks.core.store.s3 import S3Store, s3_store

__all__ = [
    "FolderStore",
    "Listed",
    "S3Store",
    "Store",
    "delete_prefix",
    "download_folder",
    "is_key",
    "open_store",
    "upload_folder",
    "walk",
]


def open_store(url: str, create: bool = True) -> Store:
    """Open `s3://bucket/prefix`, `file:///folder` or a folder's plain path; raise StoreUnusable.

    Without `create` a folder may be away: whether it is there is seen when it is used.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return FolderStore(Path(url), create)
    if scheme == "s3":
        return s3_store(url)
    if scheme == "file" and rest.startswith("/"):
        return FolderStore(Path(unquote(rest)), create)
    raise StoreUnusable(url, "it is neither s3://bucket/prefix nor file:///folder nor a folder's path")
