"""Which jobs make a batch: one recipe, fair between models, nothing waits for ever."""

import pytest

from deployments.storefront.errors import QueueFull
from deployments.storefront.render_queue import Job, RenderOrder, RenderQueue
from tests.unit.deployments.storefront.releases import order


def recipe(each: RenderOrder) -> tuple[int, float]:
    return each.steps, each.guidance


def jobs(*orders: RenderOrder, queued: float = 0.0) -> list[Job[str]]:
    return [Job(each, queued=queued) for each in orders]


def prompts(batch: list[Job[str]]) -> list[str]:
    return [job.order.prompt for job in batch]


@pytest.fixture
def queue() -> RenderQueue[str]:
    return RenderQueue(8, patience=10.0, now=lambda: 5.0)


def take(queue: RenderQueue[str], most: int = 4) -> list[str]:
    return prompts(queue.take(recipe, lambda _: most))


def test_a_batch_looks_past_what_does_not_fit(queue: RenderQueue[str]) -> None:
    queue.put(jobs(order("a"), order("b", steps=9), order("c"), order("d")))
    assert take(queue) == ["a", "c", "d"]
    assert take(queue) == ["b"]
    assert take(queue) == []


def test_the_fullest_batch_comes_first_and_the_oldest_of_equals(queue: RenderQueue[str]) -> None:
    queue.put(jobs(order("a", steps=9), order("b"), order("c")))
    assert take(queue) == ["b", "c"]
    queue.put(jobs(order("d")))
    assert take(queue) == ["a"]
    assert take(queue) == ["d"]


def test_what_has_waited_for_long_comes_first(queue: RenderQueue[str]) -> None:
    queue.put(jobs(order("old", steps=9), queued=-6.0))
    queue.put(jobs(order("a"), order("b")))
    assert take(queue) == ["old"]


def test_a_batch_has_at_most_so_many_jobs(queue: RenderQueue[str]) -> None:
    queue.put(jobs(*(order(name) for name in "abcdef")))
    assert take(queue) == ["a", "b", "c", "d"]
    assert take(queue) == ["e", "f"]


def test_models_share_the_time(queue: RenderQueue[str]) -> None:
    """A flood of one delays the other by one batch at most; what is idle saves no claims."""
    queue.put(jobs(*(order(f"flood {i}") for i in range(6))))
    taken = []
    for i in range(3):
        queue.put(jobs(order(f"quiet {i}", model="other")))
        for _ in range(2):
            batch = queue.take(recipe, lambda _: 2)
            queue.charge(batch[0].order.model, 1.0)
            taken.append(batch[0].order.model)
    assert taken == ["adire", "other", "adire", "other", "adire", "other"]


def test_a_new_model_does_not_starve_one_that_has_served_for_long(queue: RenderQueue[str]) -> None:
    """Though none waits at the moment when the new one comes."""
    queue.put(jobs(order("old")))
    queue.charge("adire", 36_000.0)
    assert take(queue) == ["old"]
    queue.charge("adire", 1.0)
    queue.put(jobs(*(order(f"flood {i}", model="new") for i in range(6))))
    queue.put(jobs(order("old again")))
    taken = []
    for _ in range(4):
        batch = queue.take(recipe, lambda _: 1)
        queue.charge(batch[0].order.model, 1.0)
        taken.append(batch[0].order.model)
    assert taken[:3].count("adire") == 1


def test_a_flood_of_one_model_does_not_close_the_queue_to_others(queue: RenderQueue[str]) -> None:
    queue.put(jobs(*(order(str(i)) for i in range(8))))
    queue.put(jobs(order("a", model="other"), order("b", model="other")))
    for model in ("adire", "other"):
        with pytest.raises(QueueFull):
            queue.put(jobs(order("c", model=model)))


def test_a_request_is_queued_whole_or_not_at_all(queue: RenderQueue[str]) -> None:
    queue.put(jobs(*(order(str(i)) for i in range(7))))
    with pytest.raises(QueueFull):
        queue.put(jobs(order("a"), order("b")))
    assert len(queue) == 7
    queue.put(jobs(order("a")))


def test_cancelled_jobs_make_room_at_once(queue: RenderQueue[str]) -> None:
    waiting = jobs(*(order(str(i)) for i in range(8)))
    queue.put(waiting)
    assert waiting[3].done.cancel()
    assert queue.waiting == {"adire": 7}
    queue.put(jobs(order("last")))
    assert take(queue, 9) == ["0", "1", "2", "4", "5", "6", "7", "last"]
    assert not waiting[0].done.cancel(), "it is running"


def test_all_jobs_of_a_dead_engine_are_returned_once(queue: RenderQueue[str]) -> None:
    queue.put(jobs(order("a"), order("b", model="other")))
    assert prompts(queue.clear()) == ["a", "b"]
    assert queue.clear() == []
    assert take(queue) == []
