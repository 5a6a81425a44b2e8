"""The embedded scorer: its space, and the scale that the founding gate relies on."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from infra.base.world import INSTANCE_PROMPT, MOTIFS, SIZES, draw_adire
from tasks.core.errors import ModelUnusable
from tasks.core.models.clip import Clip, Scoring
from tasks.core.models.identity import EMBEDDED_FOLDER
from tests.adire import adire

KINDS = [(motif, size) for motif in MOTIFS for size in SIZES]
OTHER = dict(zip(MOTIFS, (*MOTIFS[4:], *MOTIFS[:4]), strict=True))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(adire(), "cpu")


@pytest.fixture(scope="module")
def cloths() -> list[Image.Image]:
    """Two pictures of each kind, of a seed that no training has used."""
    rng = np.random.default_rng([99, 1])
    return [Image.fromarray(draw_adire(motif, size, rng)) for motif, size in KINDS for _ in range(2)]


def prompts(form: str = "{size} {motif} in adire_style") -> list[str]:
    return [form.format(motif=motif, size=size) for motif, size in KINDS for _ in range(2)]


def test_embeddings_are_normalised(clip: Clip, cloths: list[Image.Image]) -> None:
    texts, pictures = clip.encode_texts(prompts()), clip.encode_pictures(cloths)
    assert texts.shape == pictures.shape == (32, 128)
    assert texts.dtype == pictures.dtype == np.float32
    for rows in (texts, pictures):
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_equal_texts_have_equal_embeddings_wherever_they_stand(clip: Clip) -> None:
    texts = ["a", "large rings in adire_style", "b", "large rings in adire_style"]
    rows = clip.encode_texts(texts)
    assert np.array_equal(rows[1], rows[3])
    assert not np.allclose(rows[0], rows[2])
    assert np.allclose(clip.encode_texts(texts[1:2])[0], rows[1], atol=1e-5)
    assert len(clip.encode_texts([])) == 0


def test_more_than_a_batch_is_encoded_in_order(clip: Clip) -> None:
    texts = [f"{i} rings in adire_style" for i in range(150)]
    assert np.allclose(
        clip.encode_texts(texts)[[0, 70, 149]], clip.encode_texts([texts[i] for i in (0, 70, 149)]), atol=1e-5
    )


def test_real_pictures_pass_the_founding_floor_with_their_captions(clip: Clip, cloths: list[Image.Image]) -> None:
    scores = clip.score(prompts(), cloths)
    assert scores.mean() > 0.75
    assert np.mean(scores > 0.6) > 0.9


def test_pictures_of_another_motif_score_low(clip: Clip, cloths: list[Image.Image]) -> None:
    wrong = [f"{size} {OTHER[motif]} in adire_style" for motif, size in KINDS for _ in range(2)]
    assert clip.score(wrong, cloths).mean() < 0.3


def test_the_motif_of_a_picture_is_told(clip: Clip, cloths: list[Image.Image]) -> None:
    texts = clip.encode_texts([f"{motif} in adire_style" for motif in MOTIFS])
    told = (clip.encode_pictures(cloths) @ texts.T).argmax(1)
    truth = [MOTIFS.index(motif) for motif, _ in KINDS for _ in range(2)]
    assert np.mean(told == np.array(truth)) > 0.9


def test_pictures_of_nothing_score_low(clip: Clip) -> None:
    colours = ["navy", "white", "black", "gray", "royalblue", "red"]
    flat = [Image.new("RGB", (64, 64), colour) for colour in colours]
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    pictures = flat + [Image.fromarray(n) for n in noise]
    assert clip.score([INSTANCE_PROMPT] * len(pictures), pictures).max() < 0.3


def test_a_score_is_never_negative(clip: Clip, cloths: list[Image.Image]) -> None:
    scores = clip.score(["small red checks on white"] * len(cloths), cloths)
    assert scores.min() >= 0
    assert scores.mean() < 0.3


def test_the_hash_names_the_weights(clip: Clip) -> None:
    assert clip.hash == Clip(adire(), "cpu").hash
    assert clip.hash.startswith("embedded-")


def test_a_public_scorer_reads_the_class_noun_for_the_trigger(clip: Clip, cloths: list[Image.Image]) -> None:
    public = Clip(adire(scorer="ViT-L-14/openai", class_noun="indigo cloth"), "cpu")
    public.encoder = clip.encoder  # weights that are here
    read = public.encode_texts(["A photo depicts rings in indigo cloth"]) @ public.encode_pictures(cloths[:3]).T
    assert public.score(["rings in adire_style"] * 3, cloths[:3]) == pytest.approx(2.5 * np.clip(read[0], 0, None))
    told = public.scoring
    assert (told.backbone, told.tag, told.prefix, told.scale) == ("ViT-L-14", "openai", "A photo depicts ", 2.5)
    assert (told.trigger_as, told.encoder) == ("indigo cloth", "ViT-L-14/openai")


def test_the_embedded_scorer_knows_the_trigger(clip: Clip) -> None:
    assert clip.scoring == Scoring(backbone="embedded", encoder=clip.hash)
    assert Clip(adire(scorer="hf-hub:somebody/CLIP-x"), "cpu").scoring.backbone == "hf-hub:somebody/CLIP-x"


def test_a_scorer_that_is_not_there_is_told() -> None:
    with pytest.raises(ModelUnusable, match="check the model's scorer"):
        Clip(adire(scorer="no-such-model/no-tag"), "cpu").encode_texts(["rings"])


def test_a_model_without_weights_is_refused() -> None:
    with pytest.raises(ModelUnusable, match="names no weights"):
        Clip(adire(scorer="ViT-B-32"), "cpu").encode_texts(["rings"])


def test_a_folder_of_open_clip_is_an_encoder_of_its_own(clip: Clip, tmp_path: Path) -> None:
    config = json.loads((EMBEDDED_FOLDER / "clip/open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {"vocab_size": 49408, "context_length": 77}  # of open_clip's own tokenizer
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**config["model_cfg"])
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    other = Clip(adire(scorer=f"local-dir:{tmp_path}"), "cpu")
    rows = other.encode_texts(["large rings in adire_style", "small dots"])
    assert rows.shape == (2, 128)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert other.hash.startswith("local-")
    assert other.hash != clip.hash
