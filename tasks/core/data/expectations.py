"""What a dataset version must be like as a whole: uploads that do not make such a one make none."""

from collections.abc import Collection, Iterator

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import Item
from tasks.core.data.remarks import counted, remark
from tasks.core.errors import DatasetUnusable


class ExpectationsUnmet(DatasetUnusable):
    """The uploads of a dataset are not what its specification expects of a version."""

    def __init__(self, dataset: str, faults: list[str]) -> None:
        advice = "No version was made, the newest one stays. Correct the uploads, or change `ingest` of the model"
        super().__init__(dataset, f"{'; '.join(faults)}. {advice}")
        self.faults = faults


def without_trigger(items: Collection[Item], trigger: str) -> list[str]:
    """The names of pictures whose caption lacks the trigger, whatever its case."""
    return sorted(item.name for item in items if trigger.casefold() not in item.caption.casefold())


def unmet(spec: IngestSpec, items: Collection[Item], uploaded: int, refused: int, trigger: str) -> list[str]:
    """What of the expectations is not met, all at once.

    Args:
        uploaded: number of pictures among the uploads.
        refused: how many of them were refused or could not be read.
    """
    return list(_unmet(spec, items, uploaded, refused, trigger))


def _unmet(spec: IngestSpec, items: Collection[Item], uploaded: int, refused: int, trigger: str) -> Iterator[str]:
    if len(items) < spec.min_pictures:
        yield f"{counted(len(items), 'usable picture')}, ingest.min_pictures expects {spec.min_pictures:,}"
    if refused > spec.max_refused * uploaded:
        share = f"{refused:,} of {uploaded:,} pictures refused"
        yield f"{share} ({refused / uploaded:.1%}), ingest.max_refused allows {spec.max_refused:.1%}"
    if spec.require_trigger:
        yield from remark(
            without_trigger(items, trigger),
            "caption",
            f"without the trigger {trigger!r}, which ingest.require_trigger expects",
        )
