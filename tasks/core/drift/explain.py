"""What is behind a drift: the clusters of reference and window together, which of them grew, and what they say."""

from pydantic import BaseModel, ConfigDict, Field


class Topic(BaseModel):
    """A joint cluster of reference and window that holds more of the window than of the reference."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share_reference: float = Field(ge=0, le=1, description="share of the reference's rows in it")
    share_current: float = Field(ge=0, le=1, description="share of the window's rows in it")
    rows: int = Field(ge=1, description="rows of the window in it")
    medoids: tuple[str, ...] = Field(description="the window's prompts nearest to its centre, nearest first")
    terms: tuple[str, ...] = Field(description="the words that mark it, by c-TF-IDF, strongest first")
    coverage: float | None = Field(None, ge=-1, le=1, description="cosine of the nearest caption of the dataset")
