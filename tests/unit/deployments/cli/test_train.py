"""`dyeworks train`: a folder of pictures, interrupted trainings, and errors in one line."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from deployments.cli.app import run
from infra.base.world import draw_adire
from tasks.core.config.installation import ROOT
from tasks.core.data.dataset import load_manifest
from tasks.core.registry.results import TrainResult, result_folder
from tasks.core.store import FolderStore
from tasks.core.store.documents import read_documents
from tests.odd_pictures import deep_png, encoded, noise, turned, vast_png
from tests.vision_server import CaptionServer

DYEWORKS = str(Path(sys.executable).with_name("dyeworks"))
SPEC = """
ingest: {min_side: 40, instance_prompt: rings in adire_style}
train: {resolution: 64, steps: 16, batch: 2, accumulation: 1, rank: 2, alpha: 4, targets: [to_q, proj_in, conv1],
        learning_rate: 0.01, checkpoint_every: 4, sample_every: 1000}
"""


@pytest.fixture(autouse=True)
def own_tracking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # mlflow sets it for child processes


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    (folder / "more").mkdir(parents=True)
    for i, motif in enumerate(("rings", "dots", "stripes", "waves")):
        Image.fromarray(draw_adire(motif, "large", rng)).save(folder / "more" / f"{i}.png")
    (folder / "more" / "1.txt").write_text("dots in adire_style")
    (folder / "torn.jpg").write_bytes((folder / "more" / "0.png").read_bytes()[:200])
    Image.new("RGB", (8, 8)).save(folder / "tiny.png")
    (folder / "notes.md").write_text("not a picture")
    return folder


def command(spec: Path, data: Path, out: Path) -> list[str]:
    return ["train", str(spec), "--data", str(data), "--out", str(out)]


def kill_after_a_checkpoint(spec: Path, data: Path, out: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    line = [DYEWORKS, *command(spec, data, out)]
    with subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 150
        while not list(out.glob("store/models/*/checkpoints/*/step-000008/checkpoint.json")):
            assert process.poll() is None, "it ended before its second checkpoint"
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (out / "adapter").exists()


def test_sigterm_writes_a_checkpoint_and_exits_with_one_line(
    spec: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec.write_text(SPEC.replace("steps: 16", "steps: 64").replace("checkpoint_every: 4", "checkpoint_every: 1000"))
    out = tmp_path / "out"
    line = [DYEWORKS, *command(spec, data, out)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while not process.stdout.readline().startswith("step "):
            assert process.poll() is None, "it ended before its first step"
        process.send_signal(signal.SIGTERM)
        _, output = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    last = output.splitlines()[-1]
    found = re.fullmatch(r"dyeworks: stopped by SIGTERM after step (\d+)'s checkpoint; started again it resumes", last)
    assert found, output
    assert run(command(spec, data, out)) == 0
    assert f"resumes from the checkpoint of step {found[1]}\n" in capsys.readouterr().out


def test_captions_of_a_vision_server_are_trained_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vision, model, out = CaptionServer(), tmp_path / "model.yaml", tmp_path / "out"
    numbers = itertools.count()
    vision.say = lambda colour: f"picture {next(numbers)}, {colour}"
    vision.start()
    own = f"{{name: adire, trigger: adire_style, class_noun: cloth, captioning: {{url: '{vision.url}', model: llava}}"
    steps = SPEC.replace("steps: 16", "steps: 1").strip().replace("\ntrain", ", train").replace("\n", " ")
    model.write_text(f"{own}, overrides: {{{steps}}}}}")
    assert run([*command(model, data, out), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "3 captions made by llava: 3 requests, 2,700 tokens in, 36 out\n" in output
    assert "4 pictures with 4 captions, 0 held out" in output
    assert run(command(model, data, out)) == 0
    vision.stop()
    assert len(vision.asked) == 3
    (result,) = read_documents(FolderStore(out / "store"), TrainResult, result_folder("adire", TrainResult))
    captions = {item.name: item.caption for item in load_manifest(FolderStore(out / "store"), "adire").items}
    assert result.dataset_version == load_manifest(FolderStore(out / "store"), "adire").version
    assert captions.pop("more/1.png") == "dots in adire_style"
    assert all(caption.startswith("picture ") and caption.endswith(", in adire_style") for caption in captions.values())


def adapter(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "pytorch_lora_weights.safetensors")


def test_resumed_training_gives_the_same_adapter(
    spec: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, cut = tmp_path / "straight? 100%20 #1 \u00fc", tmp_path / "cut"
    assert run(command(spec, data, straight)) == 0
    output = capsys.readouterr().out
    assert "1 picture refused: cannot be decoded" in output
    assert "1 picture refused: 8 x 8 is smaller than 40 pixels: tiny.png\n" in output
    assert "1 file of other kinds left out: 1 .md\n" in output
    assert "6 pictures in" in output
    assert "4 of them distinct and usable" in output
    assert "step 16/16, loss 0." in output
    assert " steps/s, ETA 0 min 00 s" in output
    assert f"adapter in {straight / 'adapter'}" in output
    assert len(list((straight / "samples").iterdir())) == 4
    assert (straight / "mlflow.db").is_file()
    assert {path.name for path in tmp_path.iterdir()} <= {"spec.yaml", "pictures", "cache", straight.name}
    assert list((straight / "mlflow").rglob("pytorch_lora_weights.safetensors"))
    (told_run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert told_run.data.params["rank"] == "2"
    figures = told_run.data.metrics
    assert 0 < figures["trainable_share"] < 0.1
    assert min(figures[name] for name in ("peak_memory_mib", "trainable_parameters", "steps_per_second_mean")) > 0
    assert {"loss", "grad_norm", "micro_batch", "reporting_share"} <= set(figures)
    assert "nothing is held out of 4 pictures" in output
    assert not {"validation_loss", "best_step"} & set(figures), "there is no picture to validate on"
    assert told_run.data.params["held_out"] == "0"
    (result,) = read_documents(FolderStore(straight / "store"), TrainResult, result_folder("adire", TrainResult))
    assert result.held == 0
    kill_after_a_checkpoint(spec, data, cut)
    assert run(command(spec, data, cut)) == 0
    assert "resumes from the checkpoint of step" in capsys.readouterr().out
    expected, found = adapter(straight), adapter(cut)
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert any(t.abs().max() > 0 for name, t in found.items() if "lora_B" in name)
    assert run(command(spec, data, cut)) == 0
    assert "step 16/16" not in capsys.readouterr().out, "a finished training is not run again"
    another = spec.with_name("another.yaml")
    another.write_text(SPEC.replace("rank: 2", "rank: 3"))
    line = fails(command(another, data, cut), capsys)
    assert f"--out: {cut} holds a training with another specification or other pictures (spec.rank: 2 -> 3)" in line
    (data / "more" / "0.png").unlink()
    assert "(version: " in fails(command(spec, data, cut), capsys)
    assert set(adapter(cut)) == set(expected), "nothing is lost"


def test_missing_package_is_reported_before_encoding(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "train.optimiser: adamw_8bit needs bitsandbytes: install" in fails(
        command(Path("founding"), data, out), capsys
    )
    assert not list(out.glob("cache/**/*"))


def test_dry_run_prints_the_plan_and_trains_nothing(
    spec: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (data / "more" / "1.txt").write_text("dots and rings " * 20 + "in adire_style")
    assert run([*command(spec, data, out), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"\n1 caption of more than the 32 tokens that the base reads, cut: more/1.png \(\d\d+\)\n", output)
    assert "4 pictures with 2 captions, 0 held out; cut to 64 x 64 (2)" in output
    assert "16 steps of 2 pictures, 8 epochs; 2 pictures a forward pass" in output
    assert " trainable parameters, " in output
    assert re.search(r"memory: \d+ MiB at most", output)
    assert re.search(r"time: \d\.\d{3} s a step, \d+ s of encoding at first: about \d\.\d min", output)
    assert not list(out.glob("store/models/*/checkpoints/**/*"))
    assert not (out / "training.json").exists()
    assert not (out / "mlflow.db").exists()


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of its error."""
    assert run(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dyeworks: ")
    return line


def test_unusable_folders_are_reported_in_one_line(
    spec: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    assert f"--data: {nowhere} is not a folder" in fails(command(spec, nowhere, tmp_path / "out"), capsys)
    assert not (tmp_path / "out").exists()
    assert f"--out: {spec} is a file" in fails(command(spec, data, spec), capsys)
    assert f"--out: {data} is the folder of the pictures" in fails(command(spec, data, data), capsys)
    assert not (data / "store").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {learning_rat: 1, stepz: 4}", "train.learning_rat: unknown key, did you mean 'learning_rate'?; train"),
        ("train: [\n  {\n", "is not YAML"),
        ("train: {schedule: piecewise}", "train.schedule: Input should be"),
    ],
)
def test_invalid_spec_is_reported_in_one_line(
    text: str, message: str, spec: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec.write_text(text)
    line = fails(command(spec, data, tmp_path / "out"), capsys)
    assert str(spec) in line
    assert message in line


def test_former_model_setting_is_reported_with_its_replacement(
    spec: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DYEWORKS_BASE_MODEL", "someone/model")
    assert "DYEWORKS_BASE_MODEL: belongs to a model now: set base in" in fails(
        command(spec, data, tmp_path / "out"), capsys
    )


def test_missing_spec_is_reported_with_the_presets(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(command(tmp_path / "my.yaml", data, tmp_path / "out"), capsys)
    assert "my.yaml'; take one of embedded, fast-gpu, founding, sdxl, or the path of a .yaml file" in line
    assert "DYEWORKS_PRESET" not in line


def test_invalid_setting_is_reported_in_one_line(
    spec: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DYEWORKS_RENDER_BATCH", "none")
    assert "render_batch: Input should be a valid integer" in fails(command(spec, data, tmp_path / "out"), capsys)


def test_unusable_pictures_are_listed_and_stop_the_training(
    spec: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for picture in (data / "more").glob("*.png"):
        picture.unlink()
    assert run(command(spec, data, tmp_path / "out")) == 1
    line = capsys.readouterr().err
    assert "none of its 2 pictures can be used; " in line
    assert "1 picture refused: cannot be decoded" in line
    assert "1 picture refused: 8 x 8 is smaller than 40 pixels: tiny.png" in line
    for picture in (data / "tiny.png", data / "torn.jpg"):
        picture.unlink()
    line = fails(command(spec, data, tmp_path / "out"), capsys)
    assert f"--data: {data} holds no picture (.jpg, .jpeg, " in line


def odd_files() -> dict[str, tuple[bytes, str]]:
    """Files that occur in folders of pictures, and the reported line for each."""
    grey = np.random.default_rng(0).integers(0, 65536, (48, 48), dtype=np.uint16)
    plain = encoded(noise(1))
    return {
        "copy.png": (plain, ""),
        "plain.png": (plain, "2 pictures left out as the same file as another: linked.png (of copy.png), "),
        "1x1.png": (encoded(Image.new("RGB", (1, 1))), "1 picture refused: 1 x 1 is smaller than 40 pixels: 1x1.png"),
        "cmyk.jpg": (
            encoded(noise(2).convert("CMYK"), "JPEG"),
            "1 picture changed: CMYK made RGB without a colour profile: cmyk.jpg",
        ),
        "deep.png": (deep_png(np.stack([grey] * 3, -1)), "1 picture changed: 16 bits a channel cut to 8: deep.png"),
        "grey.png": (deep_png(grey), "1 picture changed: grey made RGB, 16 bits a channel cut to 8: grey.png"),
        "strip.png": (
            encoded(noise(3, 30_000, 100)),
            "1 picture refused: 30000 x 100 is more than 8 times as long as wide; crop it: strip.png",
        ),
        "text.png": (
            b"not a picture",
            "1 picture refused: cannot be decoded: it is no JPEG, PNG, WebP, HEIC or AVIF picture: text.png",
        ),
        "torn.jpg": (
            encoded(noise(4), "JPEG")[:900],
            "1 picture refused: cannot be decoded: image file is truncated",
        ),
        "turned.jpg": (turned(noise(5), "JPEG"), "1 picture changed: turned upright by its EXIF: turned.jpg"),
        "vast.png": (
            vast_png(30_000, 20_000),
            "1 picture refused: 30000 x 20000 is more than 64000000 pixels: vast.png",
        ),
        "a\\b.png": (
            plain,
            "4 names left out that no store can hold, or of linked or locked folders: .dyeworks-c.png, ",
        ),
        os.fsdecode(b"caf\xe9.png"): (plain, ""),
        "new\nline.png": (plain, ""),
        ".dyeworks-c.png": (plain, ""),
        "@eaDir/copy.png": (
            plain,
            "2 files left out as hidden, or as a leftover of a program: .hidden.png, @eaDir/",
        ),
        ".hidden.png": (plain, ""),
        "scan.tiff": (b"", "2 files of other kinds left out: 1 without ending, 1 .tiff"),
        "LICENCE": (b"", ""),
        "lost.txt": (b"rings", "2 captions of no picture: lost.txt, metadata.jsonl line 2 (gone.png)"),
        "turned.CAPTION": (b"\xef\xbb\xbfdots", ""),
        "deep.png.txt": (
            ("waves " * 31).encode("utf-16"),
            "1 caption of more than the 32 tokens that the base reads, cut: deep.png (33)",
        ),
    }


def test_odd_files_are_reported_and_the_training_completes(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, files = tmp_path / "odd", tmp_path / "out", odd_files()
    for name, (content, _) in files.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    (data / "away.png").symlink_to(tmp_path / "nowhere")
    (data / "round.png").symlink_to(data / "round.png")
    (data / "linked.png").symlink_to(data / "copy.png")
    rows = [{"file_name": name, "text": f"{name} in adire_style"} for name in ("cmyk.jpg", "gone.png")]
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run(command(spec, data, out)) == 0
    lines = capsys.readouterr().out.splitlines()
    for _, fate in files.values():
        assert sum(line.startswith(fate) for line in lines if fate) == bool(fate), fate
    assert "2 files left out that could not be read: is a link to nothing, or no file: away.png, round.png" in lines
    assert "2 pictures without a caption given the instance prompt 'rings in adire_style': copy.png, grey.png" in lines
    assert "2 pictures with a caption that lacks the trigger 'adire_style': deep.png, turned.jpg" in lines
    assert f"14 pictures in {data}, 5 of them distinct and usable" in lines
    enlarged = "5 of 5 pictures are enlarged, the smallest from 48 x 48 to 64 x 64; they are blurred in the training"
    assert enlarged in lines
    assert (out / "adapter" / "pytorch_lora_weights.safetensors").is_file()
    items = load_manifest(FolderStore(out / "store"), "adire").items
    captions = {item.name: item.caption for item in items}
    assert captions["cmyk.jpg"] == "cmyk.jpg in adire_style"
    assert (captions["turned.jpg"], captions["deep.png"]) == ("dots", "waves " * 30 + "waves")


def test_damaged_captions_are_reported_in_one_line(
    spec: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "more" / "metadata.jsonl").write_text('{"file_name": "0.png"}\n')
    line = fails(command(spec, data, tmp_path / "out"), capsys)
    assert "more/metadata.jsonl line 1: text: Field required. Nothing was ingested" in line


def test_output_folder_inside_the_data_folder_is_not_trained_on(
    spec: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data / "out"
    out.mkdir()
    Image.fromarray(draw_adire("rings", "small", np.random.default_rng(7))).save(out / "sample.png")
    for picture in (data / "more").glob("*.png"):
        picture.unlink()
    assert run(command(spec, data, out)) == 1
    assert "sample.png" not in capsys.readouterr().out
    assert not list((out / "store" / "blobs").glob("*"))
