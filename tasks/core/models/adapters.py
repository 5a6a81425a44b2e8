"""Loading an adapter: all of the file is applied, or nothing is.

The loader of diffusers 0.42.1 guesses names, gives attention layers the wrong alpha where a kohya file has
several, and only logs what it drops. So names are resolved here against the modules of the pipeline, PEFT is given the
rank and the alpha of each, and what the layers hold afterwards is compared with the file.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor

from tasks.core.errors import LoraUnusable
from tasks.core.models.families import family_of
from tasks.core.models.kohya import BASES
from tasks.core.models.lora_file import LoraFile, LoraPair, read_lora
from tasks.core.models.lora_names import COMPONENTS, LoraTarget, key_of, places

WIDTHS = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2", 2048: "stable-diffusion-xl-v1-base"}  # of texts
MOST = 1000.0  # times the norm of a weight, more than which no LoRA adds
PEFT = {"down": "lora_A.weight", "up": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def load_adapter(pipe: Any, path: Path, name: str) -> None:
    """Load a LoRA file into a pipeline under a name.

    Raises:
        LoraUnusable: it cannot be read, does not fit, or was not applied in full.
    """
    wanted = _fitted(pipe, read_lora(path))
    try:
        with torch.random.fork_rng():  # PEFT initialises weights at random first
            for component in COMPONENTS:
                if pairs := {place.module: pair for place, pair in wanted.items() if place.component == component}:
                    _add(getattr(pipe, component), name, pairs)
        _compare(pipe, name, wanted)
    except BaseException:
        forget_adapter(pipe, name)
        raise


def forget_adapter(pipe: Any, name: str) -> None:
    """Remove an adapter from every part of the pipeline that holds some of it."""
    if any(name in names for names in pipe.get_list_adapters().values()):
        pipe.delete_adapters(name)


def _add(model: Any, name: str, pairs: dict[str, LoraPair]) -> None:
    """Give a model its part of the adapter."""
    exact = {f"^{re.escape(module)}": pair for module, pair in pairs.items()}
    config = LoraConfig(
        target_modules=list(pairs),
        rank_pattern={pattern: len(pair.down) for pattern, pair in exact.items()},
        alpha_pattern={pattern: pair.scale * len(pair.down) for pattern, pair in exact.items()},
        use_dora=any(pair.magnitude is not None for pair in pairs.values()),
    )
    model.add_adapter(config, adapter_name=name)
    parts = ((module, key, getattr(pair, part)) for module, pair in pairs.items() for part, key in PEFT.items())
    tensors = {f"{module}.{key}": tensor for module, key, tensor in parts if tensor is not None}
    set_peft_model_state_dict(model, tensors, adapter_name=name)


def _fitted(pipe: Any, file: LoraFile) -> dict[LoraTarget, LoraPair]:
    """The pairs by the module that they are for, in its shape and precision."""
    known = places(pipe)
    if unknown := [module for module in file.pairs if key_of(module) not in known]:
        more = f" and {len(unknown) - 1} more modules" if len(unknown) > 1 else ""
        raise LoraUnusable(f"adapts {unknown[0][:120]!r}{more}, which the base does not have{_made_for(pipe, file)}")
    wanted: dict[LoraTarget, LoraPair] = {}
    for module, pair in file.pairs.items():
        place = known[key_of(module)]
        if place in wanted:
            raise LoraUnusable(f"adapts {place} twice, the second time as {module[:120]!r}")
        fitted = _fit(pair, place)
        if not fitted:
            shapes = f"{list(pair.down.shape)} and {list(pair.up.shape)}, its weight is {list(place.weight.shape)}"
            raise LoraUnusable(f"does not fit {place}: its pair is {shapes}{_made_for(pipe, file)}")
        _require_measure(fitted, place)
        wanted[place] = fitted
    _require_whole(wanted)
    return wanted


def _fit(pair: LoraPair, place: LoraTarget) -> LoraPair | None:
    """The pair in the shape and precision of a module; None when it does not fit."""
    out, ins, *kernel = place.weight.shape
    down, up = [len(pair.down), ins, *kernel], [out, len(pair.down), *(1 for _ in kernel)]
    if _bare(pair.down.shape) != _bare(down) or _bare(pair.up.shape) != _bare(up):
        return None
    if pair.magnitude is not None and pair.magnitude.numel() != out:
        return None
    magnitude = None if pair.magnitude is None else _cast(pair.magnitude, pair.magnitude.shape, place)
    return LoraPair(_cast(pair.down, down, place), _cast(pair.up, up, place), pair.scale, magnitude)


def _cast(tensor: Tensor, shape: Sequence[int], place: LoraTarget) -> Tensor:
    cast = tensor.reshape(shape).to(place.weight.dtype, copy=True)  # the file is mapped into memory, and may change
    if not cast.isfinite().all():
        raise LoraUnusable(f"has values for {place} that go beyond {place.weight.dtype}")
    return cast


def _require_measure(pair: LoraPair, place: LoraTarget) -> None:
    """Reject a strength that no training gives; pictures need not show it, as a softmax bounds anything."""
    added = abs(pair.scale) * pair.down.float().norm().item() * pair.up.float().norm().item()
    weight = place.weight.detach().float().norm().item()
    if not added <= MOST * max(weight, 1.0):
        raise LoraUnusable(
            f"adds up to {added:.3g} to {place}, whose weight is {weight:.3g}: its alpha or its values are wrong"
        )


def _bare(shape: Sequence[int]) -> list[int]:
    """A shape without the kernel of a 1x1 convolution: trainers save that as a matrix, or a matrix as that."""
    return list(shape[:2]) if list(shape[2:]) == [1, 1] else list(shape)


def _require_whole(wanted: dict[LoraTarget, LoraPair]) -> None:
    if not any(place.component == "unet" for place in wanted):
        raise LoraUnusable("adapts the text encoder alone; one that adapts the UNet is needed")
    for component in COMPONENTS:
        if len({pair.magnitude is None for place, pair in wanted.items() if place.component == component}) > 1:
            raise LoraUnusable(f"has DoRA's magnitudes for only some modules of the {component}")


def _compare(pipe: Any, name: str, wanted: dict[LoraTarget, LoraPair]) -> None:
    """Raise LoraUnusable unless exactly these modules hold exactly these pairs."""
    asked = {str(place): pair for place, pair in wanted.items()}
    held = dict(_held(pipe, name))
    faults = [module for module in asked.keys() | held.keys() if not _same(asked.get(module), held.get(module))]
    if faults:
        raise LoraUnusable(f"was not loaded as it is into {len(faults)} modules, such as {min(faults)}")


def _held(pipe: Any, name: str) -> Iterator[tuple[str, LoraPair]]:
    """What the layers of an adapter hold."""
    for component in COMPONENTS:
        model = getattr(pipe, component, None)
        for module, layer in model.named_modules() if model else ():
            if isinstance(layer, LoraLayer) and name in layer.lora_A:
                dora = layer.lora_magnitude_vector
                magnitude = dora[name].weight if name in dora else None
                pair = LoraPair(layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name], magnitude)
                yield f"{component}.{module}", pair


def _same(asked: LoraPair | None, held: LoraPair | None) -> bool:
    """Whether a module is given the same weights, bit for bit, and the same scale."""
    if asked is None or held is None or not math.isclose(asked.scale, held.scale):
        return False
    tensors = [(getattr(asked, part), getattr(held, part)) for part in PEFT]
    return all(a is b if a is None or b is None else torch.equal(a.flatten(), b.flatten().cpu()) for a, b in tensors)


def _made_for(pipe: Any, file: LoraFile) -> str:
    """The base of the file and that of the pipeline, where both are known and differ."""
    base, made = family_of(pipe).architecture.removesuffix("/lora"), _architecture(file)
    return f": it is a LoRA for {made}, the base is {base}" if made and made != base else ""


def _architecture(file: LoraFile) -> str:
    """The base that a file names, else the one that the width of its texts fits; empty when neither is known."""
    if named := file.metadata.get("modelspec.architecture"):
        return named[:120].removesuffix("/lora")
    if version := file.metadata.get("ss_base_model_version"):
        return next((known for known, name in BASES.items() if name == version), version[:120]).removesuffix("/lora")
    if any(key_of(module).startswith(("lora_te2_", "text_encoder_2_")) for module in file.pairs):
        return WIDTHS[2048]
    widths = {pair.down.shape[1] for module, pair in file.pairs.items() if key_of(module).endswith("attn2_to_k")}
    return WIDTHS.get(widths.pop(), "") if len(widths) == 1 else ""
