"""Captions that a vision model makes for pictures without one; each is asked for once, and kept in the store.

The answers are kept as they came: the trigger is joined to them when they are used, so that another template or trigger
asks nothing again.
"""

import io
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from PIL import Image
from pydantic import Field, SecretStr

from tasks.core.config.captioning import CaptioningSpec
from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.config.stored import Stored
from tasks.core.data.dataset import ANY, captions_key
from tasks.core.data.parallel import PIXELS, Room, in_order
from tasks.core.data.picture_validation import decoding
from tasks.core.data.remarks import counted, grouped, remark
from tasks.core.data.vision import Consumption, DescriptionFailed, VisionClient, VisionServerUnusable, check_server
from tasks.core.errors import DyeworksError, ObjectMissing, PictureRefused, StoreConflict
from tasks.core.store import Store
from tasks.core.store.documents import Document, digest, parse, revised

SENDING = "1"  # raise it when the same picture is sent otherwise than before
QUALITY = 90  # of the JPEG
BATCH = 100  # captions that are recorded at once: as many are asked for again after a kill, at most
FAILURES = 10  # in a row, after which no more is asked


class CaptionsMissing(DyeworksError):
    """Captions are required, and the vision server cannot be used."""

    def __init__(self, dataset: str, problem: str) -> None:
        advice = "start it, correct `captioning` of the model, or set captioning.required to false"
        super().__init__(f"dataset {dataset}: no captions were made: {problem}; {advice}")
        self.dataset, self.problem = dataset, problem


class MadeCaption(Stored):
    """What a vision model has said of a picture; `asked` stands for the picture and the question."""

    asked: str
    model: str
    text: str


class MadeCaptions(Document):
    """The newest such caption of each picture, by its sha256, and what all of them have cost."""

    captions: dict[str, MadeCaption] = Field(default_factory=dict)
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass
class Captioned:
    """Captions for the pictures of an ingest, by sha256, the model that made them, and remarks on the others."""

    model: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class Captioner:
    """Makes the captions of one ingest, within the specification's limits; counts what they cost."""

    def __init__(self, spec: CaptioningSpec, trigger: str = "", key: SecretStr = SecretStr("")) -> None:
        """Raises SettingError for a server that cannot be asked with this key."""
        check_server(spec.url, key.get_secret_value())
        self.spec, self.trigger, self.key = spec, trigger, key
        self.made, self.consumed = 0, Consumption()
        self._budget, self._ends = spec.most_pictures, 0.0
        self._room, self._stopped = Room(PIXELS), threading.Event()

    def captions(self, store: Store, dataset: str, wanted: Mapping[str, str]) -> Captioned:
        """Captions of stored pictures, asked for where they are not known; raises CaptionsMissing.

        Args:
            wanted: the pictures' names by their sha256.
        """
        known = read_made(store, dataset)[0].captions
        texts = {sha: known[sha].text for sha in wanted if sha in known and known[sha].asked == self._question(sha)}
        missing = sorted(wanted.keys() - texts.keys())
        random.shuffle(missing)  # so that pictures which fail each time hold up no other
        answers = self._ask(store, dataset, missing[: self._budget])
        texts |= {sha: answer for sha, answer in answers.items() if isinstance(answer, str)}
        faults = {sha: answer for sha, answer in answers.items() if not isinstance(answer, str)}
        self._require(dataset, list(faults.values()))
        return Captioned(
            self.spec.model,
            {sha: self.spec.joined(text, self.trigger) for sha, text in texts.items()},
            self._remarks(wanted, texts, faults),
        )

    def cost(self) -> str:
        """A line on what was asked; empty where nothing was."""
        spent = self.consumed
        if not spent.requests:
            return ""
        line = f"{counted(self.made, 'caption')} made by {self.spec.model}: {counted(spent.requests, 'request')}, "
        line += f"{spent.tokens_in:,} tokens in, {spent.tokens_out:,} out"
        if spent.unmetered:
            line += f" ({counted(spent.unmetered, 'answer')} without a count)"
        if self.spec.price_in is None or self.spec.price_out is None:
            return line
        cost = (spent.tokens_in * self.spec.price_in + spent.tokens_out * self.spec.price_out) / 1e6
        return f"{line}, cost {cost:,.4f}"

    def _question(self, sha256: str) -> str:
        return digest(SENDING, sha256, self.spec.model, self.spec.prompt, str(self.spec.side))

    def _ask(self, store: Store, dataset: str, pictures: list[str]) -> dict[str, str | DescriptionFailed]:
        """What the model says of each picture that it is asked about, or why nothing; all texts are recorded."""
        if not pictures:
            return {}
        self._budget -= len(pictures)
        self._ends = self._ends or time.monotonic() + self.spec.longest
        answers, fresh, failures = dict[str, str | DescriptionFailed](), dict[str, MadeCaption](), 0
        client = VisionClient(self.spec, self.key)
        try:
            found = in_order(partial(self._answer, store, client), pictures, self.spec.concurrency)
            for sha, answer in zip(pictures, found, strict=True):
                if answer is None:
                    continue
                answers[sha] = answer
                failures = 0 if isinstance(answer, str) else failures + 1
                if failures >= FAILURES:
                    self._stopped.set()
                if isinstance(answer, str):
                    fresh[sha] = MadeCaption(asked=self._question(sha), model=self.spec.model, text=answer)
                if len(fresh) >= BATCH:
                    self._record(store, dataset, fresh, client)
        finally:
            self._record(store, dataset, fresh, client)
        return answers

    def _answer(self, store: Store, client: VisionClient, sha256: str) -> str | DescriptionFailed | None:
        """What the model says of a picture, or why it says nothing; None where it was not asked."""
        left = self._ends - time.monotonic()
        if left <= 0 or self._stopped.is_set():
            return None
        try:
            return client.describe(self._jpeg(store, sha256), left)
        except PictureRefused as error:
            return DescriptionFailed(error.reason)
        except DescriptionFailed as error:
            if isinstance(error, VisionServerUnusable) and error.closed:
                self._stopped.set()
            return error

    def _jpeg(self, store: Store, sha256: str) -> bytes:
        with decoding(sha256, store.read(f"blobs/{sha256}"), ANY, self._room) as (picture, _):
            return small_jpeg(picture, self.spec.side)

    def _record(self, store: Store, dataset: str, fresh: dict[str, MadeCaption], client: VisionClient) -> None:
        spent = client.take_consumption()
        self.consumed += spent
        self.made += len(fresh)
        if spent.requests:
            record_made(store, dataset, fresh, spent)
        fresh.clear()

    def _require(self, dataset: str, faults: list[DescriptionFailed]) -> None:
        unanswered = [fault.reason for fault in faults if isinstance(fault, VisionServerUnusable)]
        if self.spec.required and (unanswered or self._stopped.is_set()):
            raise CaptionsMissing(dataset, (unanswered or [fault.reason for fault in faults])[-1])

    def _remarks(
        self, names: Mapping[str, str], texts: Mapping[str, str], faults: Mapping[str, DescriptionFailed]
    ) -> list[str]:
        by = f"by {self.spec.model}"
        described = sorted(names[sha] for sha in texts)
        failed = sorted((names[sha], fault.reason) for sha, fault in faults.items())
        left = sorted(names[sha] for sha in names.keys() - texts.keys() - faults.keys())
        limits = "captioning.most_pictures or captioning.longest was reached"
        why = "too many others failed" if self._stopped.is_set() else limits
        return [
            *remark(described, "picture", f"without a caption given one made {by}"),
            *grouped(failed, "picture", f"not described {by}"),
            *remark(left, "picture", f"left to be described by a later ingest, as {why}"),
        ]


def open_captioner(settings: Settings, model: ModelConfig) -> Captioner | None:
    """The captioner of a model; None where it has none configured. Raises SettingError."""
    return Captioner(model.captioning, model.trigger, settings.caption_key) if model.captioning else None


def small_jpeg(picture: Image.Image, side: int) -> bytes:
    """A picture in RGB scaled down to so many pixels, as a JPEG file without any metadata."""
    small, buffer = picture.copy(), io.BytesIO()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    small.info.clear()  # a comment would be written
    small.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def read_made(store: Store, dataset: str) -> tuple[MadeCaptions, str | None, bytes]:
    """The captions that were made, their version in the store, and how they were written."""
    try:
        data, tag = store.read_versioned(captions_key(dataset))
    except ObjectMissing:
        return MadeCaptions(), None, b"{}"
    return parse(MadeCaptions, data, captions_key(dataset)), tag, data


def record_made(store: Store, dataset: str, fresh: dict[str, MadeCaption], spent: Consumption) -> None:
    """Add captions to those that were made, by whichever process."""

    def with_fresh(made: MadeCaptions) -> MadeCaptions:
        return MadeCaptions(
            captions=made.captions | fresh,
            requests=made.requests + spent.requests,
            tokens_in=made.tokens_in + spent.tokens_in,
            tokens_out=made.tokens_out + spent.tokens_out,
        )

    _change(store, dataset, with_fresh)


def forget_made(store: Store, dataset: str, sha256: str) -> None:
    """Remove the caption of a picture, for good."""
    if not store.exists(captions_key(dataset)):
        return

    def without(made: MadeCaptions) -> MadeCaptions:
        captions = {sha: caption for sha, caption in made.captions.items() if sha != sha256}
        return made.model_copy(update={"captions": captions})

    _change(store, dataset, without)
    store.purge([captions_key(dataset)], earlier=True)


def _change(store: Store, dataset: str, change: Callable[[MadeCaptions], MadeCaptions]) -> None:
    while True:
        made, tag, written = read_made(store, dataset)
        if (changed := change(made)) == made:
            return
        with suppress(StoreConflict):  # an ingest has recorded some: read them too
            store.swap(captions_key(dataset), revised(written, changed), tag)
            return
