"""Every error dyeworks raises on purpose: one root, small leaves that carry their data.

A message says what was wrong, where, and what to do.
"""


class DyeworksError(Exception):
    """The root of all."""


class SettingError(DyeworksError):
    """A setting or a preset cannot be used."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name


class ObjectMissing(DyeworksError):
    """The store holds nothing under this key."""

    def __init__(self, key: str, store: str, advice: str = "") -> None:
        super().__init__(f"no object {key!r} in store {store}{advice}")
        self.key = key


class ObjectUnreadable(DyeworksError):
    """An object of the store cannot be read: permissions, or an archived storage class."""

    def __init__(self, key: str, store: str, problem: str) -> None:
        super().__init__(f"object {key!r} in store {store} cannot be read: {problem}; check its permissions")
        self.key, self.problem = key, problem


class ObjectTooLarge(DyeworksError):
    """An object is larger than the limit for reading it."""

    def __init__(self, key: str, store: str, size: int, most: int) -> None:
        super().__init__(f"object {key!r} in store {store} has {size} bytes, more than {most}; make it smaller")
        self.key = key
        self.size = size


class ObjectExists(DyeworksError):
    """A conditional create lost: the key is already there."""

    def __init__(self, key: str, store: str) -> None:
        super().__init__(f"object {key!r} already exists in store {store}")
        self.key = key


class StoreConflict(DyeworksError):
    """A compare-and-swap lost: the object is no longer the version that was read."""

    def __init__(self, key: str, store: str) -> None:
        super().__init__(f"object {key!r} in store {store} was changed by another writer; read it again and retry")
        self.key = key


class StoreUnusable(DyeworksError):
    """The store cannot be opened or written."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"store {url} cannot be used: {problem}; check DYEWORKS_STORE and its permissions")
        self.url = url


class EmbeddingsDamaged(DyeworksError):
    """A segment of cached embeddings cannot be read."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"embeddings {key} cannot be read: {problem}; delete it, and its prompts are embedded again")
        self.key = key


class ReferenceForeign(DyeworksError):
    """The champion's reference was embedded by another encoder than that of the settings."""

    def __init__(self, generation: int, expected: str, found: str) -> None:
        super().__init__(
            f"the drift reference of generation {generation} was made with encoder {expected}, the model's scorer is "
            f"{found}: run `dyeworks drift refit` to embed it again, or apply the old scorer"
        )
        self.generation, self.expected, self.found = generation, expected, found


class ProfileMissing(DyeworksError):
    """There is no drift profile of this generation."""

    def __init__(self, generation: int, model: str) -> None:
        super().__init__(
            f"model {model!r} has no drift reference of generation {generation}; see `dyeworks drift references`"
        )
        self.generation = generation


class HistoryUnusable(DyeworksError):
    """A file of past requests cannot be imported."""

    def __init__(self, name: str, problem: str, faults: int) -> None:
        super().__init__(
            f"{name}: {problem} ({faults} bad lines; nothing was imported). Each line is JSON with a prompt and a "
            'time, such as {"prompt": "rings", "time": "2026-01-31T12:00:00Z", "session": "visitor 7"}'
        )
        self.name, self.faults = name, faults


class DocumentInvalid(DyeworksError):
    """A JSON document in the store is invalid."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"document {key!r} is not valid: {problem}")
        self.key = key


class DocumentNewer(DocumentInvalid):
    """A stored document, or one in it (`place`), has a later schema version than this software knows."""

    def __init__(self, key: str, place: str, version: int, known: int) -> None:
        what = f"its {place} has" if place else "it has"
        super().__init__(key, f"{what} schema version {version}, and this dyeworks knows {known}; update dyeworks")
        self.place, self.version, self.known = place, version, known


class ModelUnknown(DyeworksError):
    """The named model does not exist, or no model was named and there is not exactly one."""

    def __init__(self, name: str, known: list[str]) -> None:
        there = f"there are {', '.join(known)}" if known else "none was applied yet: dyeworks models apply FILE"
        super().__init__(f"no model {name!r}; {there}" if name else f"name a model; {there}")
        self.name, self.known = name, known


class PlanMismatch(DyeworksError):
    """A stage cannot reproduce its parent's plan: code, base model, scorer or data differ between machines."""

    def __init__(self, stage: str, planned: str, found: str, inputs: str) -> None:
        super().__init__(
            f"{stage} was planned as {planned}, but this machine resolves the same request to {found} ({inputs}): "
            "run the same version of dyeworks, with the same base model and scorer, on both machines"
        )
        self.stage, self.planned, self.found = stage, planned, found


class DatasetUnusable(DyeworksError):
    """No dataset version can be created or found."""

    def __init__(self, dataset: str, problem: str) -> None:
        super().__init__(f"dataset {dataset!r}: {problem}")
        self.dataset, self.faults = dataset, [problem]


class CaptionsUnusable(DatasetUnusable):
    """A table of captions among the uploads has bad lines, or names no picture."""

    def __init__(self, dataset: str, faults: list[str]) -> None:
        more = f"; and {len(faults) - 5} more lines" if len(faults) > 5 else ""
        super().__init__(
            dataset,
            f"{'; '.join(faults[:5])}{more}. Nothing was ingested. Correct the table or remove it: each line names a "
            'picture and its caption, such as {"file_name": "a.png", "text": "large rings"} in a metadata.jsonl',
        )
        self.faults = faults


class PictureRefused(DyeworksError):
    """A picture that cannot be trained on."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"picture {name!r}: {reason}")
        self.name = name
        self.reason = reason


class ModelUnusable(DyeworksError):
    """A base model, an adapter or a scorer cannot be loaded."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"model {name!r}: {problem}")
        self.name, self.problem = name, problem


class LoraUnusable(DyeworksError):
    """A LoRA file cannot be read, or a part of it cannot be applied."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the LoRA {problem}")
        self.problem = problem


class OutOfMemory(DyeworksError):
    """A training does not fit into the memory of its device."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"out of memory: {problem}; set {advice}")
        self.advice = advice


class TrainingFailed(DyeworksError):
    """The processes of a training ended without an adapter."""

    def __init__(self, run: str, problem: str) -> None:
        super().__init__(f"training {run}: {problem}")
        self.run = run


class TrainingDiverged(DyeworksError):
    """A training has diverged: its loss, its weights or its pictures are not finite."""

    def __init__(self, step: int, problem: str = "the loss is not a number") -> None:
        super().__init__(f"{problem} at step {step}: lower train.learning_rate, or set precision bf16")
        self.step, self.problem = step, problem


class CheckpointForeign(DyeworksError):
    """A training would resume from the checkpoint of another specification."""

    def __init__(self, run: str, differences: list[str]) -> None:
        super().__init__(
            f"training {run} was started with another specification ({'; '.join(differences)}): "
            "resume with the old one, or start a new training in another folder"
        )
        self.run, self.differences = run, differences


class Terminated(DyeworksError):
    """A training was stopped by SIGTERM."""

    def __init__(self, step: int = 0) -> None:
        how = f" after step {step}'s checkpoint; started again it resumes" if step else ""
        super().__init__(f"stopped by SIGTERM{how}")
        self.step = step


class StageFailed(DyeworksError):
    """A stage of a retrain did not complete."""

    def __init__(self, stage: str, run: str, message: str) -> None:
        super().__init__(f"stage {stage} (flow run {run}) did not complete: {message}")
        self.stage = stage


class StageCancelled(DyeworksError):
    """A stage of a retrain was cancelled, and with it the retrain."""

    def __init__(self, stage: str, run: str) -> None:
        super().__init__(f"stage {stage} (flow run {run}) was cancelled, so the retrain ends; start another if wanted")
        self.stage = stage


class ResultMissing(DyeworksError):
    """There is no result of an earlier stage."""

    def __init__(self, stage: str, key: str) -> None:
        super().__init__(f"no result of stage {stage!r}{f' under key {key}' if key else ''}; run that stage first")
        self.stage = stage


class NothingToReplay(DyeworksError):
    """A dry run found no drift checks."""

    def __init__(self, model: str, store: str, days: float | None) -> None:
        when = f" of the last {days:g} days" if days else ""
        super().__init__(
            f"no drift checks{when} under drift/{model}/reports/ in store {store}; "
            f"check DYEWORKS_STORE{', take more days' if days else ''}, or run monitor-drift first"
        )
        self.model = model


class EventUndelivered(DyeworksError):
    """The Prefect server did not accept an event, this one alone or any; it stays in the outbox."""

    def __init__(self, event: str, problem: str, alone: bool = False) -> None:
        super().__init__(f"event {event} was not delivered ({problem}); it stays in the outbox and is sent again")
        self.event, self.alone = event, alone


class EventRefused(DyeworksError):
    """The Prefect server rejects this event for good."""

    def __init__(self, event: str, key: str, problem: str) -> None:
        super().__init__(f"event {event} was rejected ({problem}); it is stored under {key} and is not sent again")
        self.event, self.key = event, key


class PromotionLost(DyeworksError):
    """Another promotion took the generation first."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"generation {generation} was promoted by another run; evaluate against the new champion")
        self.generation = generation


class ReleaseCorrupt(DyeworksError):
    """A file of a release does not match the manifest."""

    def __init__(self, release: str, name: str) -> None:
        super().__init__(f"release {release}: file {name!r} does not match its sha256; publish it again or roll back")
        self.release = release


class ReleaseWithdrawn(DyeworksError):
    """A release was withdrawn, and with it its training."""

    def __init__(self, release: str, actor: str, reason: str, training: str = "") -> None:
        of, advice = (f" of training {training}", "training") if training else ("", "generation")
        super().__init__(f"release {release}{of} was withdrawn by {actor} ({reason}); take another {advice}")
        self.release, self.training = release, training


class ReleaseAbandoned(DyeworksError):
    """A challenger that was rolled back would be promoted again without a person's request."""

    def __init__(self, release: str, generation: int) -> None:
        super().__init__(
            f"release {release} was rolled back by generation {generation}: it is only promoted again by a person, "
            "with spec.actor and spec.reason"
        )
        self.release, self.generation = release, generation


class NotificationUndelivered(DyeworksError):
    """A notification was not delivered; its address is a secret, so it is not part of this."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"a notification was not delivered: {problem}; check {setting}")
        self.setting = setting


class ReleaseIncomplete(ObjectMissing):
    """A file of a release is gone: it was swept, or deleted by hand."""

    def __init__(self, release: str, key: str, store: str) -> None:
        problem = f"release {release} is incomplete; sweep-store keeps the newest releases alone"
        super().__init__(key, store, f": {problem}: choose a newer generation, or train it again")
        self.release = release


class ReleaseUnknown(DyeworksError):
    """A release or a generation does not exist."""

    def __init__(self, name: str, model: str) -> None:
        super().__init__(f"model {model!r} has no {name}; see models/{model}/promotions/ in the store")
        self.name = name


class AdoptionRefused(DyeworksError):
    """A LoRA cannot be made generation 1; nothing was written."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"cannot adopt {source or 'a LoRA'}: {problem}; nothing was written")
        self.source = source


class PublishRefused(DyeworksError):
    """A publishing target cannot be used; nothing was uploaded."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"cannot publish to {place}: {problem}; nothing was uploaded")
        self.place = place


class PublishFailed(DyeworksError):
    """Publishing failed half-way: that place serves the previous generation, or already the new one."""

    def __init__(self, place: str, problem: str, status: int = 0) -> None:
        super().__init__(
            f"publishing to {place} failed: {problem}; run it again: files that are there are not sent twice"
        )
        self.place, self.problem, self.status = place, problem, status  # status: HTTP status, 0 without a response


class ReconcileFailed(DyeworksError):
    """Some places could not be reconciled with the ledger; the others were."""

    def __init__(self, faults: list[DyeworksError], changes: tuple[str, ...]) -> None:
        problems = "; ".join(str(fault) for fault in faults)
        super().__init__(f"{len(faults)} places could not be reconciled with the ledger, the others were: {problems}")
        self.faults, self.changes = faults, changes


class BadKey(DyeworksError):
    """A store key is not a plain relative path."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"store key {key!r} {problem}; a key is a relative path such as 'blobs/ab12'")
        self.key = key


class CalibrationImpossible(DyeworksError):
    """The scores of a model compared with itself cannot be used to calibrate the gate."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(
            f"the gate cannot be calibrated: {'; '.join(faults)} (the challenger is the first run, the champion the "
            "second). Both must measure everything on the same prompts, two or more a measure, with as many seeds"
        )
        self.faults = faults
