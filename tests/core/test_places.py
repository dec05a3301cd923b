"""Places: who may run, who is set aside, and that nobody is forgotten."""

import random

import pytest

from ringback.core.places import MAX_PER_HOST, MAX_PER_TENANT, Places


def test_a_full_host_sets_aside_in_order():
    """One host takes its few; the next are named one by one as places are given back."""
    places = Places()
    taken = [lane for lane in range(MAX_PER_HOST + 3) if places.take(lane, ("t", "h"))]
    assert taken == list(range(MAX_PER_HOST))
    assert places.ready(64) == []
    assert places.take(99, ("t", "other"))
    assert places.take(98, ("u", "h")), "another tenant at the same host is not held up"
    places.leave(("t", "h"))
    assert places.ready(64) == [MAX_PER_HOST]
    assert places.ready(64) == [MAX_PER_HOST + 1], "the one named first did not ask yet"


def test_a_full_tenant_leaves_the_rest_to_others():
    """However many hosts it names."""
    places = Places()
    assert sum(places.take(lane, ("t", f"h{lane}")) for lane in range(100)) == MAX_PER_TENANT
    assert places.take(100, ("u", "h"))


def test_who_is_forgotten_is_not_named():
    """A lane that was dropped, or asks by another way, is not in the queue any more."""
    places = Places()
    for lane in range(MAX_PER_HOST + 2):
        places.take(lane, ("t", "h"))
    places.forget(MAX_PER_HOST)
    places.leave(("t", "h"))
    assert places.ready(0) == []
    assert places.ready(64) == [MAX_PER_HOST + 1]
    assert (places._aside, places._where) == ({}, {})


@pytest.mark.parametrize("seed", range(20))
def test_everybody_gets_a_place_in_the_end(seed):
    """Whatever the order of beginnings and ends: no limit is passed, and nobody is left over."""
    chance = random.Random(seed)
    places, running, done = Places(), {}, set()
    waiting = [(lane, (chance.choice("tu"), chance.choice("abcdefgh"))) for lane in range(300)]
    at = dict(waiting)
    todo = [lane for lane, _ in waiting]
    while len(done) < 300:
        todo += places.ready(64 - len(running))
        while todo and len(running) < 64:
            lane = todo.pop(0)
            if places.take(lane, at[lane]):
                running[lane] = at[lane]
        counts = [list(running.values()).count(place) for place in set(running.values())]
        assert max(counts) <= MAX_PER_HOST
        assert running, "somebody waits although there is room"
        for lane in chance.sample(sorted(running), chance.randint(1, len(running))):
            places.leave(running.pop(lane))
            done.add(lane)
    assert not places._taken
