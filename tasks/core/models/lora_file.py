"""LoRA files of any trainer, parsed strictly: the update of each module, or an error.

Supported are the names of PEFT (`lora_A`), of kohya and A1111 (`lora_down`) and of older versions of diffusers
(`to_q_lora.down`, `lora.down`). A module's scale is alpha / rank: alpha is a tensor beside the pair, or in the metadata
as diffusers writes it, or in PEFT's `adapter_config.json` beside the file; where nothing names it, it is the rank.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tasks.core.errors import LoraUnusable

CONFIG = "adapter_config.json"  # PEFT's
PEFT = "base_model.model."
METADATA = "lora_adapter_metadata"  # of diffusers: the LoraConfig of each component
DEFAULT_ALPHA = 8.0  # PEFT's
MOST = 1e30  # an alpha above is taken for no number; JSON knows integers without end
MANY = 20_000  # tensors, several times those of the largest base
SHOWN = 120  # letters of a name that a message shows
TENSOR = re.compile(
    r"""(?P<module>.+?)(?:
        (?P<down>\.lora_A(?:\.\w+)?\.weight|\.lora_down\.weight|(?:\.lora|\.lora_linear_layer|_lora)\.down\.weight)
      | (?P<up>\.lora_B(?:\.\w+)?\.weight|\.lora_up\.weight|(?:\.lora|\.lora_linear_layer|_lora)\.up\.weight)
      | (?P<alpha>(?:\.lora|_lora)?\.alpha)
      | (?P<magnitude>\.lora_magnitude_vector(?:\.\w+){0,2})
    )""",
    re.VERBOSE,
)
KINDS = {  # of adapters that are something else, by their tensors
    r"\.hada_": "LoHa",
    r"\.lokr_": "LoKr",
    r"\.b?oft_": "OFT",
    r"\.[ab][12]\.weight$": "GLoRA",
    r"ia3_|\.on_input$": "IA3",
    r"vera_lambda": "VeRA",
    r"\.(?:diff|diff_b|set_weight|w_norm|b_norm)$": "full differences of weights",
    r"\.lora_mid\.": "LoCon with a Tucker decomposition",
    r"\.dora_scale$": "DoRA in kohya's format",
    r"\.lora_\w+(?:\.\w+)?\.bias$": "a LoRA with biases",
    r"\.lora_embedding_": "a LoRA of embeddings",
}


@dataclass(frozen=True)
class LoraPair:
    """The update of one module: add `scale * up @ down` to its weight; tensors in the file's dtype."""

    down: Tensor  # [rank, in], of a convolution [rank, in, h, w]
    up: Tensor  # [out, rank], of a convolution [out, rank, 1, 1]
    scale: float
    magnitude: Tensor | None = None  # of DoRA, [out] or [1, out, 1, 1]


@dataclass(frozen=True)
class LoraFile:
    """The pairs by the name that the file gives to their modules, and its metadata."""

    pairs: dict[str, LoraPair]
    metadata: dict[str, str]

    @property
    def changes(self) -> bool:
        """Whether any module is changed at all."""
        return any(pair.down.float().any() and pair.up.float().any() for pair in self.pairs.values())


def read_lora(path: Path) -> LoraFile:
    """Read a file; raises LoraUnusable."""
    try:
        with safe_open(path, framework="pt") as file:
            slots = _slots(list(file.keys()))
            metadata = file.metadata() or {}
            configs = _configs(path, metadata, slots)
            pairs = {}
            for module, names in slots.items():
                parts = {part: file.get_tensor(name) for part, name in names.items()}
                pairs[module] = _pair(module, parts, configs)
    except (SafetensorError, OSError, ValueError, NotImplementedError) as error:
        raise LoraUnusable(f"is no safetensors file that can be read ({str(error)[:300]})") from error
    return LoraFile(pairs, metadata)


def _slots(names: list[str]) -> dict[str, dict[str, str]]:
    """The names of the tensors by module and part; every module has both halves."""
    if len(names) > MANY:
        raise LoraUnusable(f"holds {len(names)} tensors, more than any LoRA has")
    found = {name: TENSOR.fullmatch(name) for name in names}
    if foreign := [name for name, match in found.items() if not match]:
        raise LoraUnusable(_foreign(foreign))
    slots: dict[str, dict[str, str]] = {}
    for name, match in found.items():
        part = str(match and match.lastgroup)
        slot = slots.setdefault(match["module"] if match else "", {})
        if slot.setdefault(part, name) != name:
            raise LoraUnusable(f"holds both {slot[part][:SHOWN]!r} and {name[:SHOWN]!r}")
    if not slots:
        raise LoraUnusable("holds no tensors of a LoRA")
    for module, slot in slots.items():
        if not {"down", "up"} <= slot.keys():
            raise LoraUnusable(f"lacks the other half of the pair of {module[:SHOWN]!r}")
    return slots


def _foreign(names: list[str]) -> str:
    for pattern, kind in KINDS.items():
        if others := [name for name in names if re.search(pattern, name)]:
            return f"holds {others[0][:SHOWN]!r}, a tensor of {kind}, which cannot be loaded; take a plain LoRA"
    return f"holds {names[0][:SHOWN]!r}, which is no tensor of a LoRA"


def _pair(module: str, parts: dict[str, Tensor], configs: dict[str, dict[str, Any]]) -> LoraPair:
    down, up, magnitude = parts["down"], parts["up"], parts.get("magnitude")
    for part, tensor in parts.items():
        if part != "alpha" and not (tensor.is_floating_point() and tensor.float().isfinite().all()):
            raise LoraUnusable(f"has values in {module[:SHOWN]!r} ({part}) that are no finite numbers")
    if down.ndim not in (2, 4) or up.ndim not in (2, 4) or not down.numel() or not up.numel():
        raise LoraUnusable(f"has {_shapes(module, down, up)}, which are no pair of matrices or convolutions")
    if up.shape[1] != len(down):
        raise LoraUnusable(f"has {_shapes(module, down, up)}, which are of two ranks")
    scale = _scale(module, len(down), parts.get("alpha"), configs)
    return LoraPair(down, up, scale, magnitude)


def _shapes(module: str, down: Tensor, up: Tensor) -> str:
    return f"tensors {list(down.shape)} and {list(up.shape)} for {module[:SHOWN]!r}"


def _scale(module: str, rank: int, tensor: Tensor | None, configs: dict[str, dict[str, Any]]) -> float:
    """alpha / rank, of rsLoRA alpha / sqrt(rank)."""
    component, _, inner = _split(module)
    config = configs.get(component, {})
    if tensor is not None:
        alpha = float(tensor) if tensor.numel() == 1 and not tensor.is_complex() else math.nan
    elif component in configs:
        alpha = _alpha(config, inner)
    else:
        return 1.0
    if not math.isfinite(alpha):
        raise LoraUnusable(f"has an alpha of {module[:SHOWN]!r} that is not one finite number")
    if not alpha:  # kohya's trainer takes the rank for it, others scale by 0
        raise LoraUnusable(f"has alpha 0 for {module[:SHOWN]!r}, which programs understand differently; set the alpha")
    rooted = tensor is None and config.get("use_rslora")
    return alpha / (math.sqrt(rank) if rooted else rank)


def _split(module: str) -> tuple[str, str, str]:
    """The component that a dotted name begins with, and the module in it."""
    return (PEFT, "", module.removeprefix(PEFT)) if module.startswith(PEFT) else module.partition(".")


def _alpha(config: dict[str, Any], module: str) -> float:
    """The alpha of a module by a LoraConfig; patterns are plain names here, never expressions."""
    alpha = config.get("lora_alpha", DEFAULT_ALPHA)
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(re.fullmatch(r"\^?[\w.]+", key) for key in patterns):
        raise LoraUnusable("has an alpha_pattern in its metadata that is no table of modules")
    for key, value in patterns.items():
        if module == key.removeprefix("^") or module.endswith(f".{key}"):
            alpha = value
            break
    return float(alpha) if isinstance(alpha, int | float) and abs(alpha) < MOST else math.nan


def _configs(path: Path, metadata: dict[str, str], modules: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The LoraConfig of each component."""
    configs: dict[str, dict[str, Any]] = {}
    if METADATA in metadata:
        for key, value in _table(metadata[METADATA], f"metadata {METADATA!r}").items():
            component, _, name = key.partition(".")
            configs.setdefault(component, {})[name] = value
    if any(module.startswith(PEFT) for module in modules):
        beside = path.with_name(CONFIG)
        if not beside.is_file():
            raise LoraUnusable(f"is in PEFT's format without its {CONFIG}, which holds alpha; put it beside the file")
        configs[PEFT] = _table(beside.read_bytes(), CONFIG)
    return configs


def _table(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LoraUnusable(f"has {what} that is no JSON ({str(error)[:300]})") from error
    if not isinstance(table, dict):
        raise LoraUnusable(f"has {what} that is no table")
    return table
