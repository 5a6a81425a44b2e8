"""The order of the pictures: a function of (seed, epoch), by weights, one shape at a time."""

from collections import Counter

import numpy as np
import pytest

from tasks.core.training.sampler import Order


def order(weights: list[float], batch: int, seed: int = 1, shapes: list[tuple[int, ...]] | None = None) -> Order:
    given = np.array(weights) / sum(weights)
    return Order(given, shapes or [(4, 8, 8)] * len(weights), batch, seed)


def epoch(found: Order, number: int = 0) -> list[int]:
    first = number * found.steps + 1
    return [int(row) for step in range(first, first + found.steps) for row in found.rows(step)]


@pytest.mark.parametrize("number", [0, 1, 7])
def test_an_epoch_shows_each_picture_once(number: int) -> None:
    assert sorted(epoch(order([1.0] * 12, 4), number)) == list(range(12))


def test_places_that_are_left_over_go_to_some_pictures_twice() -> None:
    counts = Counter(epoch(order([1.0] * 10, 4)))
    assert sorted(counts) == list(range(10))
    assert sorted(counts.values()) == [1] * 8 + [2] * 2


def test_a_batch_larger_than_the_pictures_takes_them_evenly() -> None:
    assert sorted(Counter(epoch(order([1.0] * 3, 8))).values()) == [2, 3, 3]


def test_a_weight_is_a_share_of_the_places() -> None:
    counts = Counter(row for number in range(200) for row in epoch(order([1, 1, 1, 5], 4), number))
    assert counts[3] / counts.total() == pytest.approx(5 / 8, abs=0.02)
    assert counts[0] == pytest.approx(counts[1], rel=0.4)


def test_it_is_a_function_of_seed_and_epoch_alone() -> None:
    one, again, other = order([1.0] * 12, 4), order([1.0] * 12, 4), order([1.0] * 12, 4, seed=2)
    again.rows(900)
    assert epoch(one, 2) == epoch(again, 2)
    assert epoch(one, 2) != epoch(one, 3)
    assert epoch(one, 2) != epoch(other, 2)
    assert [list(one.rows(8))] == [epoch(one, 2)[4:8]], "a training can go on in the middle of an epoch"


def test_a_step_is_of_one_shape_where_it_can_be() -> None:
    shapes: list[tuple[int, ...]] = [(4, 8, 8), (4, 6, 10)] * 12
    found = order([1.0] * 24, 4, shapes=shapes)
    mixed = 0
    for number in range(5):
        assert sorted(epoch(found, number)) == list(range(24))
        steps = [found.rows(number * found.steps + step) for step in range(1, found.steps + 1)]
        mixed += sum(len({shapes[row] for row in rows}) > 1 for rows in steps)
    assert mixed == 0
    kinds = [shapes[found.rows(step)[0]] for step in range(1, found.steps + 1)]
    assert kinds != sorted(kinds), "shapes take turns"
