"""Which datasets the models of the store subscribe to, as they were read last; no request waits for the store."""

from collections.abc import Mapping, Sequence

from deployments.problems import ApiError, Forbidden
from tasks.core.access.keys import ApiKey
from tasks.core.config.model import ModelConfig


class ModelsUnread(ApiError):
    """The models cannot be read from the store now."""

    status = 503
    code = "unavailable"

    def __init__(self) -> None:
        super().__init__("the models cannot be read from the store now, the log says why; send it again", retry_after=5)


class DatasetUnknown(ApiError):
    """No model subscribes to a dataset."""

    status = 404
    code = "unknown_dataset"

    def __init__(self, dataset: str, known: Sequence[str]) -> None:
        there = f"there are {', '.join(known)}" if known else "there is none"
        super().__init__(f"no model subscribes to a dataset {dataset[:100]!r}; {there}", "dataset")
        self.dataset, self.known = dataset, known


class Subscriptions:
    """The datasets of each model; a thread of the gateway keeps them up to date."""

    def __init__(self) -> None:
        self.by_model: Mapping[str, frozenset[str]] | None = None  # None: the store cannot be read

    def update(self, models: Sequence[ModelConfig] | None) -> None:
        """Take over what was read; None where it could not be."""
        self.by_model = None if models is None else {model.name: frozenset(model.datasets) for model in models}

    def all(self) -> frozenset[str] | None:
        """The datasets to which a model subscribes; None while that is not known."""
        return None if self.by_model is None else frozenset().union(*self.by_model.values())

    def of(self, key: ApiKey) -> list[str]:
        """The datasets to which a key may upload; raises ModelsUnread."""
        if self.by_model is None:
            raise ModelsUnread
        mine = (names for model, names in self.by_model.items() if not key.models or model in key.models)
        return sorted(frozenset().union(*mine))

    def require(self, dataset: str, key: ApiKey) -> None:
        """Raise ModelsUnread, DatasetUnknown or Forbidden unless a key may upload to a dataset."""
        if dataset in (mine := self.of(key)):
            return
        if dataset in (self.all() or ()):
            raise Forbidden(key.name, f"is for models that do not subscribe to {dataset!r}", "upload")
        raise DatasetUnknown(dataset, mine)
