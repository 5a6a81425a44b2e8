"""A CLIP tokenizer pruned to the words of the embedded world.

The same merges drive transformers' CLIPTokenizer and open_clip's SimpleTokenizer; a word outside the
world falls back to letters.
"""

import gzip
import itertools
import json
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

from infra.base.world import COLOURS, MOTIFS, SIZES, THINGS, TRIGGER

CONTEXT_LENGTH = 32
MERGES_FILE = "merges.txt.gz"

# Words of captions and of the simulated users' prompts.
WORDS = (
    *COLOURS,
    *MOTIFS,
    *SIZES,
    *THINGS,
    *TRIGGER.split("_"),
    *[
        "a",
        "an",
        "the",
        "of",
        "on",
        "in",
        "for",
        "with",
        "and",
        "or",
        "to",
        "my",
        "me",
        "i",
        "we",
        "you",
        "it",
        "is",
        "as",
        "like",
        "no",
        "not",
    ],
    *[
        "picture",
        "photo",
        "depicts",
        "cloth",
        "fabric",
        "textile",
        "pattern",
        "style",
        "indigo",
        "dyed",
        "resist",
        "tie",
        "print",
    ],
    *[
        "please",
        "show",
        "draw",
        "make",
        "paint",
        "want",
        "need",
        "design",
        "motif",
        "beautiful",
        "bold",
        "fine",
        "soft",
        "bright",
        "dark",
    ],
)
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def prune_merges(words: tuple[str, ...] = WORDS) -> list[tuple[str, str]]:
    """The merges of CLIP's byte-pair encoding that `words` use, in CLIP's order."""
    full = SimpleTokenizer()
    ranks: dict[tuple[str, str], int] = full.bpe_ranks
    used: set[tuple[str, str]] = set()
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while pairs := [p for p in itertools.pairwise(parts) if p in ranks]:
            best = min(pairs, key=ranks.__getitem__)
            used.add(best)
            at = next(i for i, p in enumerate(itertools.pairwise(parts)) if p == best)
            parts[at : at + 2] = ["".join(best)]
    return sorted(used, key=ranks.__getitem__)


def build_tokenizer(merges: list[tuple[str, str]]) -> CLIPTokenizer:
    """The pipeline's tokenizer: 512 byte tokens, the merges, then start and end of text."""
    letters = list(SimpleTokenizer().byte_encoder.values())
    tokens = [*letters, *(c + "</w>" for c in letters), *("".join(m) for m in merges), *_SPECIAL]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH)


def write_open_clip_merges(merges: list[tuple[str, str]], folder: Path) -> Path:
    """Write the merges as open_clip reads them (its first line is a header)."""
    path = folder / MERGES_FILE
    text = "\n".join(["#version: 0.2", *(" ".join(m) for m in merges)])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Build and save the pipeline's tokenizer, with the vocabulary and merges files SD tools expect."""
    merges = prune_merges()
    tokenizer = build_tokenizer(merges)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(tokenizer.get_vocab(), ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(m) for m in merges)]) + "\n", encoding="utf-8"
    )
    return tokenizer
