"""The adapters in memory, of all models of a base: at most `most` beside the pinned ones, least recently used go first.

Used in the engine's thread alone.
"""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from tasks.core.config.model import ModelConfig
from tasks.core.models.rendering import Renderer

T = TypeVar("T")


class AdapterCache:
    """Makes adapters active; `pinned` are those of the champions, which stay."""

    def __init__(
        self,
        renderer: Renderer,
        most: int,
        pinned: Callable[[], Collection[str]] = tuple,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.renderer, self.most, self.pinned, self.observe = renderer, most, pinned, observe
        self.loaded: list[str] = []  # the most recently used last

    def use(self, release: str, folder: Path) -> None:
        """Make a release the active adapter, the bare base if it is empty; load it from the folder unless it is loaded.

        Raises:
            ModelUnusable: it is no LoRA for this base.
            torch.OutOfMemoryError: the device is out of memory, which is no fault of the adapter.
        """
        if release:
            if release not in self.loaded:
                start = time.monotonic()
                self.renderer.load(folder, release)
                self.observe(time.monotonic() - start)  # seconds
            self.loaded = [name for name in self.loaded if name != release] + [release]
        if self.renderer.active != release:
            self.renderer.activate(release)
        self._evict()

    def try_out(self, release: str, folder: Path, model: ModelConfig) -> None:
        """Make a release the active adapter, and render a smoke prompt; unload it if it was not loaded and that fails.

        Raises:
            ModelUnusable: it is no LoRA for this base, or does not render.
            torch.OutOfMemoryError: the device is out of memory.
        """
        is_new = release not in self.loaded
        try:
            self.use(release, folder)
            self.renderer.try_out(model)
        except BaseException:
            if is_new:
                self.drop(release)
            raise

    def drop(self, release: str) -> None:
        """Unload an adapter."""
        if self.renderer.active == release:
            self.renderer.activate("")
        if release:
            self.renderer.unload(release)
        self.loaded = [name for name in self.loaded if name != release]

    def _evict(self) -> None:
        pinned = self.pinned()
        for release in [name for name in self.loaded if name not in pinned][: -self.most]:
            self.drop(release)
