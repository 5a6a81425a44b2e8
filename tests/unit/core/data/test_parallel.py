"""Work on many things at once: in order, and within bounds."""

import threading
import time
from collections.abc import Iterator

import pytest

from tasks.core.config.presets import IngestSpec
from tasks.core.data.parallel import AHEAD, Room, in_order
from tasks.core.data.picture_validation import examine
from tests.odd_pictures import encoded, noise


class Watched:
    """What is in use of a room, and the most that ever was."""

    def __init__(self, room: Room) -> None:
        self.room, self.now, self.most, self.lock = room, 0, 0, threading.Lock()

    def use(self, amount: int) -> int:
        with self.room.taken(amount):
            self._add(amount)
            time.sleep(0.001)
            self._add(-amount)
        return amount

    def _add(self, amount: int) -> None:
        with self.lock:
            self.now += amount
            self.most = max(self.most, self.now)


def test_no_more_than_the_room_is_in_use() -> None:
    watched = Watched(Room(10))
    amounts = [3, 4, 5, 6, 7, 1] * 20
    assert list(in_order(watched.use, amounts, workers=8)) == amounts
    assert 7 <= watched.most <= 10


def within(room: Room, entered: threading.Event) -> None:
    with room.taken(1):
        entered.set()


def test_more_than_the_room_is_let_in_alone() -> None:
    room = Room(10)
    with room.taken(1000):
        entered = threading.Event()
        other = threading.Thread(target=within, args=(room, entered))
        other.start()
        assert not entered.wait(0.05)
    other.join(30)
    assert entered.is_set()


def test_room_is_given_back_after_an_error() -> None:
    room = Room(1)
    for _ in range(2):
        with pytest.raises(KeyError), room.taken(1):
            raise KeyError


def test_results_come_in_order_and_things_are_taken_as_they_are_needed() -> None:
    taken = list[int]()

    def things() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_order(lambda number: number * 2, things(), workers=2)
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert len(taken) <= 5 + AHEAD * 2 + 1


def test_the_first_error_ends_the_work() -> None:
    done = list[int]()

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        done.append(number)
        return number

    with pytest.raises(ValueError, match="three"):
        list(in_order(work, range(1000), workers=2))
    assert len(done) < 100


def test_a_picture_takes_room_for_its_pixels() -> None:
    room, picture = Room(2000), encoded(noise(1, 40, 50))
    work = threading.Thread(target=examine, args=("a.png", picture, IngestSpec(), room))
    with room.taken(1):
        work.start()
        work.join(0.1)
        assert work.is_alive()
    work.join(30)
    assert not work.is_alive()
