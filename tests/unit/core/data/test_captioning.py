"""Captions that a vision server makes, asked for over real sockets: what it gets, and what its answers become."""

import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam
from PIL import Image
from pydantic import SecretStr

from tasks.core import http
from tasks.core.config.captioning import CaptioningSpec
from tasks.core.config.installation import ROOT, Settings
from tasks.core.config.presets import IngestSpec
from tasks.core.data.captioning import (
    BATCH,
    FAILURES,
    Captioner,
    CaptionsMissing,
    MadeCaption,
    open_captioner,
    read_made,
    record_made,
    small_jpeg,
)
from tasks.core.data.dataset import Manifest, captions_key, newest_version, remarks
from tasks.core.data.ingest import ingest
from tasks.core.data.vision import MOST_BYTES, Consumption
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.odd_pictures import encoded
from tests.vision_server import COLOURS, CaptionServer, Scripted, tinted, tinted_file

NAME = "cloth"
SPEC = IngestSpec(instance_prompt="cloth")
SAID = {f"{colour}.png": f"A {colour} cloth with fine dots, in adire_style" for colour in COLOURS}


@pytest.fixture
def vision(monkeypatch: pytest.MonkeyPatch) -> Iterator[CaptionServer]:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    server = CaptionServer()
    server.start()
    yield server
    server.stop()


def spec_of(vision: CaptionServer, **fields: object) -> CaptioningSpec:
    return CaptioningSpec.model_validate({"url": vision.url, "model": "llava"} | fields)


def upload(store: FolderStore, *colours: str) -> None:
    for colour in colours:
        store.write(f"uploads/{NAME}/{colour}.png", tinted_file(colour))


def ingested(store: FolderStore, spec: CaptioningSpec, key: str = "") -> tuple[Manifest, Captioner]:
    captioner = Captioner(spec, "adire_style", SecretStr(key))
    return ingest(store, NAME, SPEC, "adire_style", captioner=captioner)[0], captioner


def captions(manifest: Manifest) -> dict[str, str]:
    return {item.name: item.caption for item in manifest.items}


def test_each_picture_gets_the_words_about_it_once(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, *COLOURS)
    manifest, captioner = ingested(folder, spec_of(vision))
    assert captions(manifest) == SAID
    assert {item.caption_by for item in manifest.items} == {"llava"}
    assert captioner.cost() == "5 captions made by llava: 5 requests, 4,500 tokens in, 60 out"
    again, idle = ingested(folder, spec_of(vision))
    assert again == manifest
    assert idle.cost() == ""
    assert sorted(vision.colours()) == sorted(COLOURS)
    names = "blue.png, green.png, red.png and 2 more"
    assert remarks(folder, again) == [f"5 pictures without a caption given one made by llava: {names}"]


def test_without_a_captioner_nothing_is_sent(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red")
    (item,) = ingest(folder, NAME, SPEC)[0].items
    assert (item.caption, item.caption_by) == ("cloth", "")
    assert vision.asked == []
    assert open_captioner(Settings(), adire()) is None


@pytest.mark.parametrize("change", [{"prompt": "Which cloth?"}, {"model": "qwen"}, {"side": 64}])
def test_another_question_is_asked_again(change: dict[str, object], folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red", "blue")
    ingested(folder, spec_of(vision))
    vision.say = lambda colour: f"{colour} as asked now"
    changed, _ = ingested(folder, spec_of(vision, **change))
    assert set(captions(changed).values()) == {f"{c} as asked now, in adire_style" for c in ("red", "blue")}
    assert len(vision.asked) == 4


def test_another_template_or_trigger_asks_nothing(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red")
    first, _ = ingested(folder, spec_of(vision))
    second, _ = ingested(folder, spec_of(vision, template="{trigger}: {caption}"))
    assert captions(second) == {"red.png": "adire_style: A red cloth with fine dots"}
    assert second.version != first.version
    assert len(vision.asked) == 1


def test_a_caption_that_has_the_trigger_stays_as_it_is(folder: FolderStore, vision: CaptionServer) -> None:
    vision.say = lambda colour: "  An Adire_Style cloth,\n  dotted.  "
    upload(folder, "red")
    assert captions(ingested(folder, spec_of(vision))[0]) == {"red.png": "An Adire_Style cloth, dotted."}


def test_a_person_s_caption_counts_whenever_it_comes(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red", "blue")
    folder.write(f"uploads/{NAME}/blue.txt", b"waves")
    folder.write(f"uploads/{NAME}/copy of blue.png", tinted_file("blue"))
    assert captions(ingested(folder, spec_of(vision))[0]) == {"red.png": SAID["red.png"], "blue.png": "waves"}
    assert vision.colours() == ["red"]
    folder.write(f"uploads/{NAME}/red.txt", b"flames")
    manifest, _ = ingested(folder, spec_of(vision))
    assert {(item.caption, item.caption_by) for item in manifest.items} == {("flames", ""), ("waves", "")}
    assert len(vision.asked) == 1


def test_what_is_refused_is_not_sent(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red")
    folder.write(f"uploads/{NAME}/torn.png", tinted_file("blue")[:900])
    folder.write(f"uploads/{NAME}/green.png", tinted_file("green"))
    folder.write(f"uploads/{NAME}/green.txt", b"\xff\xfe\xff")
    assert captions(ingested(folder, spec_of(vision))[0]) == {"red.png": SAID["red.png"]}
    assert vision.colours() == ["red"]


def test_the_request_is_what_openai_s_client_sends(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red")
    spec = spec_of(vision)
    ingested(folder, spec, key="sk-1")
    (ours,) = vision.asked
    picture = ours.body["messages"][0]["content"][1]["image_url"]["url"]
    message: ChatCompletionUserMessageParam = {
        "role": "user",
        "content": [
            {"type": "text", "text": spec.prompt},
            {"type": "image_url", "image_url": {"url": picture}},
        ],
    }
    with openai.OpenAI(base_url=spec.url, api_key="sk-1", max_retries=0) as client:
        found = client.chat.completions.create(
            model=spec.model, messages=[message], max_tokens=spec.max_tokens, temperature=0
        )
    theirs = vision.asked[1]
    assert (ours.path, ours.body) == (theirs.path, theirs.body)
    for name in ("authorization", "content-type"):
        assert ours.headers[name] == theirs.headers[name]
    assert found.choices[0].message.content == "A red cloth with fine dots."
    assert found.usage
    assert found.usage.prompt_tokens == 900


def test_the_picture_is_sent_small_and_without_metadata(folder: FolderStore, vision: CaptionServer) -> None:
    exif = Image.Exif()
    exif[0x013B] = "ada lovelace"
    exif[0x0112] = 6
    wide = tinted("red", side=200).resize((400, 100))
    data = encoded(wide, "JPEG", exif=exif, comment=b"ada lovelace", icc_profile=b"ada lovelace")
    folder.write(f"uploads/{NAME}/red.jpg", data)
    ingested(folder, spec_of(vision, side=64))
    (asked,) = vision.asked
    assert asked.picture.size == (16, 64), "upright, as its EXIF says"
    assert b"ada" not in asked.jpeg
    assert asked.picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_small_picture_is_not_enlarged_and_the_caller_s_stays_as_it_is() -> None:
    commented = tinted("red")
    commented.info["comment"] = b"ada lovelace"
    data = small_jpeg(commented, 768)
    assert Image.open(io.BytesIO(data)).size == commented.size == (48, 48)
    assert b"ada" not in data
    assert commented.info


def test_no_more_questions_run_at_once_than_allowed(folder: FolderStore, vision: CaptionServer) -> None:
    for number in range(12):
        folder.write(f"uploads/{NAME}/{number}.png", tinted_file("red", number))
    vision.together = 3
    ingested(folder, spec_of(vision, concurrency=3))
    assert (len(vision.asked), vision.most_running) == (12, 3)


def test_a_busy_server_is_asked_again_when_it_says(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red")
    vision.script = [Scripted(429, headers={"Retry-After": "1"}), Scripted(500), Scripted(503)]
    manifest, captioner = ingested(folder, spec_of(vision, attempts=4))
    assert captions(manifest) == {"red.png": SAID["red.png"]}
    assert captioner.consumed == Consumption(4, 900, 12)
    first, second = [(b.begun - a.begun) for a, b in pairwise(vision.asked)][:2]
    assert first >= 1 > second


def test_a_question_without_an_answer_ends_and_the_next_ingest_asks_again(
    folder: FolderStore, vision: CaptionServer
) -> None:
    upload(folder, "red", "blue")
    vision.by_colour["red"] = Scripted(hangs=True)
    manifest, _ = ingested(folder, spec_of(vision, timeout=0.3, attempts=2))
    assert captions(manifest) == {"red.png": "cloth", "blue.png": SAID["blue.png"]}
    assert sorted(vision.colours()) == ["blue", "red", "red"]
    assert f"1 picture not described by llava: {vision.url}: the answer takes too long: red.png" in remarks(
        folder, manifest
    )
    vision.by_colour.clear()
    assert captions(ingested(folder, spec_of(vision))[0])["red.png"] == SAID["red.png"]
    assert len(vision.asked) == 4


def chat(text: object, finish: str = "stop") -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": finish}]}).encode()


NO_CHAT = "the answer is no chat completion"
HIDDEN = "the answer holds control or invisible characters"
GARBAGE = {
    "nothing": (Scripted(body=b""), NO_CHAT),
    "HTML": (Scripted(body=b"<html><body>It works!</body></html>"), NO_CHAT),
    "half of it": (Scripted(body=chat("waves")[:20]), NO_CHAT),
    "a list": (Scripted(body=b"[1, 2]"), NO_CHAT),
    "no choice": (Scripted(body=b'{"choices": []}'), NO_CHAT),
    "a number": (Scripted(body=chat(7)), NO_CHAT),
    "an object": (Scripted(body=chat({"caption": "waves"})), NO_CHAT),
    "half a character": (Scripted(body=chat("\ud800")), NO_CHAT),
    "deep": (Scripted(body=b"[" * 100_000), NO_CHAT),
    "not UTF-8": (Scripted(body=chat("waves").replace(b"waves", b"\xff")), NO_CHAT),
    "null": (Scripted(body=chat(None)), "the answer is empty"),
    "spaces": (Scripted(body=chat(" \n\t ")), "the answer is empty"),
    "bell": (Scripted(body=chat("waves\a")), HIDDEN),
    "turned text": (Scripted(body=chat("waves \u202e")), HIDDEN),
    "a novel": (Scripted(body=chat("waves " * 200)), "the answer has more than 1,000 characters"),
    "cut off": (Scripted(body=chat("waves and", "length")), "the answer was cut off; raise captioning.max_tokens"),
    "huge": (Scripted(body=b" " * (MOST_BYTES + 1)), f"the answer is longer than {MOST_BYTES:,} bytes"),
    "refused": (Scripted(400, body=b"no"), "{url} answered 400 Bad Request"),
    "moved": (Scripted(302, headers={"Location": "http://127.0.0.1:1/"}), "{url} answered 302 Found"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_an_answer_of_no_use_is_a_fault_of_that_picture_alone(
    kind: str, folder: FolderStore, vision: CaptionServer
) -> None:
    upload(folder, "red", "blue")
    vision.by_colour["red"], reason = GARBAGE[kind]
    manifest, _ = ingested(folder, spec_of(vision, required=True))
    assert captions(manifest) == {"red.png": "cloth", "blue.png": SAID["blue.png"]}
    assert {item.name: item.caption_by for item in manifest.items} == {"red.png": "", "blue.png": "llava"}
    assert len(vision.asked) == 2
    lines = remarks(folder, manifest)
    assert f"1 picture not described by llava: {reason.format(url=vision.url)}: red.png" in lines
    assert "1 picture without a caption given the instance prompt 'cloth': red.png" in lines
    assert "1 picture without a caption given one made by llava: blue.png" in lines


def test_a_server_that_is_down_costs_no_ingest(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red")
    vision.stop()
    manifest, captioner = ingested(folder, spec_of(vision))
    assert captions(manifest) == {"red.png": "cloth"}
    assert captioner.consumed.requests == 3
    (line,) = [line for line in remarks(folder, manifest) if "not described" in line]
    assert "connection attempts failed" in line


@pytest.mark.parametrize("status", [401, 503])
def test_captions_that_are_required_end_the_ingest(status: int, folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red", "blue")
    vision.by_colour["red"] = Scripted(status)
    with pytest.raises(CaptionsMissing, match=f"answered {status}"):
        ingested(folder, spec_of(vision, required=True, concurrency=1))
    assert newest_version(folder, NAME) == ""
    vision.by_colour.clear()
    assert len(captions(ingested(folder, spec_of(vision, required=True))[0])) == 2
    assert vision.colours().count("blue") == 1, "what was answered is not asked again"


@pytest.mark.parametrize(("status", "most"), [(401, 1), (404, 1), (400, FAILURES), (200, FAILURES)])
def test_a_server_that_answers_nothing_of_use_is_left_alone(
    status: int, most: int, folder: FolderStore, vision: CaptionServer
) -> None:
    for number in range(30):
        folder.write(f"uploads/{NAME}/{number}.png", tinted_file("red", number))
    vision.by_colour["red"] = Scripted(status)
    manifest, _ = ingested(folder, spec_of(vision, concurrency=1))
    assert most <= len(vision.asked) <= most + 1, "one more may run before the last answer was looked at"
    assert any(
        "left to be described by a later ingest, as too many others" in line for line in remarks(folder, manifest)
    )


def test_an_ingest_asks_about_so_many_and_the_next_about_the_others(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, *COLOURS)
    spec = spec_of(vision, most_pictures=3)
    assert sorted(captions(ingested(folder, spec)[0]).values()).count("cloth") == 2
    assert captions(ingested(folder, spec)[0]) == SAID
    assert len(vision.asked) == 5


def test_an_ingest_asks_for_so_long(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red", "blue")
    vision.by_colour = {colour: Scripted(hangs=True) for colour in COLOURS}
    manifest, _ = ingested(folder, spec_of(vision, longest=0.3, concurrency=1))
    assert len(vision.asked) == 1
    assert any("left to be described by a later ingest" in line for line in remarks(folder, manifest))


@pytest.mark.parametrize(
    "usage", [None, 7, {"prompt_tokens": -1}, {"prompt_tokens": "many"}, {"prompt_tokens": 10**99}]
)
def test_tokens_are_counted_where_the_server_counts_them(
    usage: object, folder: FolderStore, vision: CaptionServer
) -> None:
    upload(folder, "red")
    vision.usage = usage
    manifest, captioner = ingested(folder, spec_of(vision))
    assert captions(manifest) == {"red.png": SAID["red.png"]}
    assert captioner.cost() == "1 caption made by llava: 1 request, 0 tokens in, 0 out (1 answer without a count)"


def test_what_captions_cost_is_counted(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red", "blue")
    captioner, notes = Captioner(spec_of(vision, price_in=0.5, price_out=2)), list[str]()
    ingest(folder, NAME, SPEC, note=notes.append, captioner=captioner)
    line = "2 captions made by llava: 2 requests, 1,800 tokens in, 24 out, cost 0.0009"
    assert captioner.cost() == line
    assert f"dataset {NAME}: {line}" in notes
    upload(folder, "green")
    ingested(folder, spec_of(vision))
    made, *_ = read_made(folder, NAME)
    assert (made.requests, made.tokens_in, made.tokens_out) == (3, 2700, 36), "of all ingests of the dataset"


def test_captions_of_two_ingests_at_once_are_all_recorded(folder: FolderStore) -> None:
    def record(number: int) -> None:
        made = {str(number): MadeCaption(asked="1", model="llava", text=str(number))}
        record_made(folder, NAME, made, Consumption(1, 2, 3))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, range(40)))
    made, *_ = read_made(folder, NAME)
    assert made.captions.keys() == {str(number) for number in range(40)}
    assert (made.requests, made.tokens_in, made.tokens_out) == (40, 80, 120)


KILLED = """
import sys
from tasks.core.config.captioning import CaptioningSpec
from tasks.core.config.presets import IngestSpec
from tasks.core.data.captioning import Captioner
from tasks.core.data.ingest import ingest
from tasks.core.store import open_store
spec = CaptioningSpec(url=sys.argv[2], model="llava", concurrency=1)
ingest(open_store(sys.argv[1]), "cloth", IngestSpec(), captioner=Captioner(spec))
"""


def test_a_kill_loses_the_answers_since_the_last_record_alone(folder: FolderStore, vision: CaptionServer) -> None:
    count = BATCH + 8
    for number in range(count):
        folder.write(f"uploads/{NAME}/{number}.png", tinted_file("red", number))
    vision.hold_after = BATCH + 2
    with subprocess.Popen([sys.executable, "-c", KILLED, folder.url, vision.url], cwd=ROOT) as process:
        with vision.changed:
            assert vision.changed.wait_for(lambda: len(vision.asked) > vision.hold_after, 60)
        while not folder.exists(captions_key(NAME)):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert newest_version(folder, NAME) == ""
    recorded = read_made(folder, NAME)[0].captions
    assert len(recorded) == BATCH
    vision.hold_after = 0
    manifest, captioner = ingested(folder, spec_of(vision))
    assert captioner.consumed.requests == count - BATCH
    assert {item.caption_by for item in manifest.items} == {"llava"}
    assert len(manifest.items) == count


def test_no_proxy_gets_what_is_sent_in_clear_text(
    folder: FolderStore, vision: CaptionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = CaptionServer()
    proxy.start()
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    monkeypatch.setenv("http_proxy", proxy.address)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    upload(folder, "red")
    manifest, _ = ingested(folder, spec_of(vision), key="sk-1")
    proxy.stop()
    assert captions(manifest) == {"red.png": SAID["red.png"]}
    assert proxy.asked == []


def test_no_key_is_no_header(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red")
    ingested(folder, spec_of(vision))
    assert "authorization" not in vision.asked[0].headers


def test_the_settings_key_is_used_and_never_stored(
    folder: FolderStore, vision: CaptionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYEWORKS_CAPTION_KEY", "sk-canary")
    upload(folder, "red")
    captioner = open_captioner(Settings(), adire(captioning=spec_of(vision)))
    ingest(folder, NAME, SPEC, captioner=captioner)
    assert vision.asked[0].headers["authorization"] == "Bearer sk-canary"
    assert not [key for key in folder.list("") if b"sk-canary" in folder.read(key)]


def test_a_version_is_named_by_pictures_and_captions_alone(folder: FolderStore, vision: CaptionServer) -> None:
    upload(folder, "red")
    made, _ = ingested(folder, spec_of(vision))
    folder.delete(captions_key(NAME))
    for version in folder.folders(f"datasets/{NAME}/"):
        folder.delete(f"datasets/{NAME}/{version}/manifest.json")
    folder.write(f"uploads/{NAME}/red.txt", SAID["red.png"].encode())
    assert ingest(folder, NAME, SPEC)[0].version == made.version
    assert hashlib.sha256(folder.read(f"uploads/{NAME}/red.png")).hexdigest() == made.items[0].sha256
