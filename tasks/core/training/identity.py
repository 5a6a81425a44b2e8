"""Names of what encodes pictures and texts, by content: what was encoded once can be found again."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import Module


def name_encoder(modules: Sequence[Module], *beside: str) -> str:
    """16 hex digits of a sha256 over the modules' tensors, with their names, precisions and shapes, and what is beside.

    The same weights in another precision encode otherwise, and have another name.
    """
    whole = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            whole.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    for text in beside:
        whole.update(f"{text}\n".encode())
    return whole.hexdigest()[:16]


def vocabulary(tokenizer: Any) -> str:
    """A tokenizer's words with their numbers, its length and what fills it."""
    words = sorted(tokenizer.get_vocab().items())
    return repr((words, tokenizer.model_max_length, tokenizer.pad_token_id))
