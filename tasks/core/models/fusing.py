"""The active adapter inside the weights of the base, where it costs nothing a picture.

PEFT computes an adapter's layers beside those of the base: a third of the time of a picture where convolutions are
adapted. The sum of both weights gives the same pictures but for rounding.
"""

from typing import Any

from peft.tuners.lora import LoraLayer
from torch import Tensor

from tasks.core.errors import ModelUnusable
from tasks.core.models.lora_names import COMPONENTS


class FusedAdapter:
    """Puts one adapter into the weights of a pipeline at a time; the base's own are kept, and put back as they were."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.kept: dict[LoraLayer, Tensor] = {}  # the base's own weights of the layers that are fused

    def fuse(self, name: str) -> None:
        """Add a loaded adapter to the weights of the base, in new tensors.

        Raises:
            ModelUnusable: the sum has infinite values.
        """
        self.restore()
        try:
            for layer in self._layers(name):
                self.kept[layer] = layer.get_base_layer().weight.data
                layer.merge(safe_merge=True, adapter_names=[name])
        except BaseException as error:
            self.restore()
            if isinstance(error, ValueError):
                raise ModelUnusable(name, f"cannot be added to the base: {error}") from error
            raise

    def restore(self) -> None:
        """Put the base's own weights back, the same tensors: subtracting the adapter would leave rounding behind."""
        for layer, weight in self.kept.items():
            if layer.merged:
                layer.unmerge()
            layer.get_base_layer().weight.data = weight
        self.kept = {}

    def _layers(self, name: str) -> list[LoraLayer]:
        models = (getattr(self.pipe, component, None) for component in COMPONENTS)
        modules = (module for model in models if model is not None for module in model.modules())
        return [module for module in modules if isinstance(module, LoraLayer) and name in module.lora_A]
