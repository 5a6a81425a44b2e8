"""The safety checker: the real class at a tiny size, both of its verdicts, and everything that keeps it from one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from tasks.core.config.installation import Settings
from tasks.core.errors import ModelUnusable
from tasks.core.models.identity import EMBEDDED_FOLDER
from tasks.core.models.safety import BATCH, PicturesUnchecked, SafetyChecker, checker_source
from tests.adire import adire

WEIGHTS = "model.safetensors"
NEVER, ALWAYS = 1.5, -1.5  # thresholds that no cosine exceeds, and that every one does
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checker that lets everything pass, alone in a folder, as the published one lies on the Hub."""
    folder = tmp_path_factory.mktemp("checker")
    config = CLIPConfig(vision_config=VISION, projection_dim=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = StableDiffusionSafetyChecker(config)
        model.concept_embeds.normal_()
        model.special_care_embeds.normal_()
    model.concept_embeds_weights.fill_(NEVER)
    model.special_care_embeds_weights.fill_(NEVER)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture
def checker(saved: Path) -> SafetyChecker:
    return SafetyChecker(str(saved), "cpu")


@pytest.fixture
def altered(saved: Path, tmp_path: Path) -> Callable[[Callable[[Tensors], Tensors]], Path]:
    """Saves a checker with other tensors."""

    def alter(change: Callable[[Tensors], Tensors]) -> Path:
        folder = tmp_path / "altered"
        shutil.copytree(saved, folder)
        save_file(change(load_file(saved / WEIGHTS)), folder / WEIGHTS, {"format": "pt"})
        return folder

    return alter


def noise(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def embedding(checker: SafetyChecker, picture: Image.Image) -> torch.Tensor:
    """What the checker's own network makes of a square picture."""
    pixels = checker.processor(images=[picture], return_tensors="pt").pixel_values
    found: torch.Tensor = checker.model.visual_projection(checker.model.vision_model(pixels)[1])
    return found[0].detach()


def forbid(checker: SafetyChecker, picture: Image.Image) -> None:
    """Make one concept exactly what the network makes of this picture, and its threshold one that only this exceeds."""
    checker.model.concept_embeds.data[3] = embedding(checker, picture)
    checker.model.concept_embeds_weights.data[3] = 0.999


def test_both_verdicts(checker: SafetyChecker) -> None:
    assert checker.flags([noise(seed=1), noise(seed=2)]) == [False, False]
    checker.model.concept_embeds_weights.data[5] = ALWAYS
    assert checker.flags([noise(seed=1), noise(seed=2)]) == [True, True]


def test_special_care_alone_flags_nothing(checker: SafetyChecker) -> None:
    checker.model.special_care_embeds_weights.data.fill_(ALWAYS)
    assert checker.flags([noise()]) == [False]


def test_each_picture_has_its_own_verdict_in_more_than_a_batch(checker: SafetyChecker) -> None:
    flat = [Image.new("RGB", (64, 64), (i, 0, 0)) for i in range(BATCH + 3)]
    bad = noise()
    forbid(checker, bad)
    pictures = [*flat[:2], bad, *flat[2:], bad]
    assert checker.flags(pictures) == [picture is bad for picture in pictures]
    assert not any(checker.flags(flat))


def test_no_pictures(checker: SafetyChecker) -> None:
    assert checker.flags([]) == []


def test_pictures_stay_as_they_are(checker: SafetyChecker) -> None:
    checker.model.concept_embeds_weights.data.fill_(ALWAYS)
    picture = noise()
    before = picture.tobytes()
    assert checker.flags([picture]) == [True]
    assert picture.tobytes() == before


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 96), (64, 224), (400, 64), (64, 65)])
@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_the_ends_of_a_long_picture_are_seen_too(width: int, height: int, where: float, checker: SafetyChecker) -> None:
    bad, picture = noise(), Image.new("RGB", (width, height), "white")
    forbid(checker, bad)
    assert checker.flags([picture]) == [False]
    picture.paste(bad, (round(where * (width - 64)), round(where * (height - 64))))
    assert checker.flags([picture]) == [True]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pictures_of_other_modes(mode: str, checker: SafetyChecker) -> None:
    assert checker.flags([noise().convert(mode)]) == [False]


def test_embeddings_that_are_no_numbers_pass_nothing(checker: SafetyChecker) -> None:
    checker.model.visual_projection.weight.data.fill_(torch.nan)
    with pytest.raises(PicturesUnchecked, match="not finite; its pictures are not shown"):
        checker.flags([noise()])


def test_a_picture_that_cannot_be_read_passes_none_of_its_batch(checker: SafetyChecker) -> None:
    closed = noise()
    closed.close()
    with pytest.raises(PicturesUnchecked):
        checker.flags([noise(), closed])


def test_an_error_of_the_device_passes_nothing(checker: SafetyChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(checker.model.vision_model, "forward", fail)
    with pytest.raises(PicturesUnchecked, match="illegal memory access"):
        checker.flags([noise()])


def test_memory_that_is_exhausted_is_for_the_caller(checker: SafetyChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(checker.model.vision_model, "forward", fail)
    with pytest.raises(torch.OutOfMemoryError):
        checker.flags([noise()])


def test_the_published_form_is_read(
    checker: SafetyChecker, altered: Callable[[Callable[[Tensors], Tensors]], Path]
) -> None:
    """That of 2022: names with one level more, a tensor that the class no longer has, configurations of their time."""

    def rename(tensors: Tensors) -> Tensors:
        old = {name.replace("vision_model.", "vision_model.vision_model."): value for name, value in tensors.items()}
        return old | {"vision_model.vision_model.embeddings.position_ids": torch.arange(17)[None]}

    folder = altered(rename)
    config = {
        "architectures": ["SafetyChecker"],
        "model_type": "clip",
        "projection_dim": 16,
        "transformers_version": None,
    }
    sizes = {"text_config_dict": {"hidden_size": 64, "num_attention_heads": 4}, "vision_config_dict": VISION}
    full = {"text_config": {"num_beams": 1, "torch_dtype": None}, "vision_config": VISION | {"top_k": 50}}
    (folder / "config.json").write_text(json.dumps(config | sizes | full))
    steps = dict.fromkeys(("do_resize", "do_center_crop", "do_normalize"), True)
    values = {"size": 32, "crop_size": 32, "resample": 3, "image_mean": OPENAI_CLIP_MEAN, "image_std": OPENAI_CLIP_STD}
    kind = {"feature_extractor_type": "CLIPFeatureExtractor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(kind | steps | values))
    assert torch.equal(embedding(SafetyChecker(str(folder), "cpu"), noise()), embedding(checker, noise()))


def test_half_precision_is_read_as_single(altered: Callable[[Callable[[Tensors], Tensors]], Path]) -> None:
    folder = altered(lambda tensors: {name: value.half() for name, value in tensors.items()})
    assert SafetyChecker(str(folder), "cpu").model.dtype == torch.float32


@pytest.mark.parametrize("name", ["concept_embeds", "concept_embeds_weights", "visual_projection.weight"])
def test_a_checkpoint_that_lacks_weights_is_refused(
    name: str, altered: Callable[[Callable[[Tensors], Tensors]], Path]
) -> None:
    """Otherwise they would be random, and the verdicts too."""
    folder = altered(lambda tensors: {key: value for key, value in tensors.items() if key != name})
    with pytest.raises(ModelUnusable, match=f"lacks 1 weights, such as {name}"):
        SafetyChecker(str(folder), "cpu")


def test_a_checkpoint_with_weights_that_are_no_numbers_is_refused(
    altered: Callable[[Callable[[Tensors], Tensors]], Path],
) -> None:
    nan = torch.full((17,), torch.nan)
    folder = altered(lambda tensors: tensors | {"concept_embeds_weights": nan})
    with pytest.raises(ModelUnusable, match="concept_embeds_weights is not finite"):
        SafetyChecker(str(folder), "cpu")


def test_weights_of_another_shape_are_refused(altered: Callable[[Callable[[Tensors], Tensors]], Path]) -> None:
    folder = altered(lambda tensors: tensors | {"concept_embeds": torch.ones(17, 8)})
    with pytest.raises(ModelUnusable, match="no safety checker"):
        SafetyChecker(str(folder), "cpu")


def test_a_pickle_is_refused_unread(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(saved, folder)
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(ModelUnusable, match=r"safetensors weights, or serving\.safety: false"):
        SafetyChecker(str(folder), "cpu")


def test_damaged_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(saved, folder)
    (folder / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(ModelUnusable, match="no safety checker"):
        SafetyChecker(str(folder), "cpu")


@pytest.mark.parametrize("name", ["preprocessor_config.json", "config.json"])
def test_a_folder_without_its_configuration_is_refused(name: str, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(saved, folder)
    (folder / name).unlink()
    with pytest.raises(ModelUnusable, match="no safety checker"):
        SafetyChecker(str(folder), "cpu")


def test_a_name_that_is_neither_folder_nor_id_is_refused() -> None:
    with pytest.raises(ModelUnusable, match="set DYEWORKS_SAFETY_CHECKER"):
        SafetyChecker("no such/checker/here", "cpu")


def test_a_base_s_own_checker_comes_first(saved: Path, tmp_path: Path, checker: SafetyChecker) -> None:
    for part in ("safety_checker", "feature_extractor"):
        (tmp_path / part).mkdir()
    for name in ("config.json", WEIGHTS):
        shutil.copy(saved / name, tmp_path / "safety_checker")
    shutil.copy(saved / "preprocessor_config.json", tmp_path / "feature_extractor")
    assert checker_source(str(tmp_path), "someone/checker") == str(tmp_path)
    own = SafetyChecker(str(tmp_path), "cpu")
    assert torch.equal(embedding(own, noise()), embedding(checker, noise()))


@pytest.mark.parametrize("base", [str(EMBEDDED_FOLDER / "pipeline"), "someone/base@0f2b3c"])
def test_without_one_the_setting_counts(base: str) -> None:
    assert checker_source(base, "someone/checker") == "someone/checker"


def test_a_base_s_pickle_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "safety_checker").mkdir()
    (tmp_path / "safety_checker/pytorch_model.bin").write_bytes(b"")
    assert checker_source(str(tmp_path), "someone/checker") == "someone/checker"


def test_the_default_names_a_commit() -> None:
    name, _, revision = Settings().safety_checker.partition("@")
    assert name == "CompVis/stable-diffusion-safety-checker"
    assert len(bytes.fromhex(revision)) == 20


@pytest.mark.parametrize(
    ("base", "safety", "checks"),
    [
        ("embedded", None, False),
        ("someone/base", None, True),
        ("embedded", True, True),
        ("someone/base", False, False),
    ],
)
def test_public_bases_are_checked_unless_the_model_says_otherwise(base: str, safety: bool | None, checks: bool) -> None:
    assert adire(base=base, serving={"safety": safety}).checks_safety is checks
