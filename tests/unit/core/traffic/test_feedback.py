"""Votes in the store: written at least once, every word in the order of time, the last one counts."""

from datetime import UTC, datetime, timedelta

from tasks.core.store import FolderStore
from tasks.core.traffic.feedback import Vote, last_words, read_votes, write_votes

START = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
END = START + timedelta(days=2)


def vote(minutes: float, liked: bool = True, picture: str = "") -> Vote:
    return Vote(
        request_id=picture or f"at-{minutes}",
        time=START + timedelta(minutes=minutes),
        liked=liked,
        release="",
        generation=0,
        session="s",
    )


def test_votes_come_back_as_they_were_given(folder: FolderStore) -> None:
    votes = [vote(m, liked=m > 10) for m in (0, 20, 200)]
    write_votes(folder, "adire", reversed(votes))
    assert read_votes(folder, "adire", START, END) == votes
    assert read_votes(folder, "adire", START + timedelta(minutes=1), START + timedelta(minutes=30)) == [votes[1]]
    assert read_votes(folder, "adire-2", START, END) == []
    assert read_votes(folder, "adire", datetime(2000, 1, 1, tzinfo=UTC), END) == votes


def test_each_hour_is_an_object_of_its_own_and_holds_no_prompt(folder: FolderStore) -> None:
    write_votes(folder, "adire", [vote(m) for m in (0, 1, 40)])
    hours = [key.rpartition("/")[0] for key in folder.list("feedback/adire/")]
    assert hours == ["feedback/adire/dt=2026-03-01/hour=22", "feedback/adire/dt=2026-03-01/hour=23"]
    assert set(Vote.model_fields) == {
        "schema_version", "request_id", "model", "time", "liked", "release", "generation", "session", "voter"
    }  # fmt: skip


def test_of_what_was_written_twice_or_changed_the_last_word_counts(folder: FolderStore) -> None:
    for _ in range(2):
        write_votes(folder, "adire", [vote(0, False, "p"), vote(1, True, "q")])
    write_votes(folder, "adire", [vote(5, True, "p")])
    votes = read_votes(folder, "adire", START, END)
    assert [(v.request_id, v.liked) for v in votes] == [("p", False), ("q", True), ("p", True)]
    assert {v.request_id: v.liked for v in last_words(votes)} == {"p": True, "q": True}
