"""Windows in memory: what a commit adds to them, once and at its place."""

from qurate.serving.windows import CachedWindow, Known, NewRow, UserWindow, WindowCache, place_of_decision, place_of_event


def row(place: int, item: str, user: str = "u", kind: str = "click") -> NewRow:
    return NewRow(user, place, item, kind, place * 10, 0.0)


def cache_of(*seqs: int, length: int = 4, capacity: int = 10) -> tuple[WindowCache, list[str]]:
    """Each customer is loaded with events of these numbers, in a snapshot up to the last one; and who was loaded."""
    loaded: list[str] = []

    def load(user: str) -> CachedWindow:
        loaded.append(user)
        items, n = tuple(f"i{seq}" for seq in seqs), len(seqs)
        window = UserWindow(items, ("click",) * n, tuple(seq * 10 for seq in seqs), (0.0,) * n)
        return CachedWindow(window, tuple(place_of_event(seq) for seq in seqs), max(seqs, default=0))

    return WindowCache(load, length, capacity), loaded


def test_a_row_of_the_snapshot_is_not_applied_again() -> None:
    """The store may call back after the customer was loaded from what it calls back about."""
    cache, _ = cache_of(3, 5)
    assert cache.get("u") == Known(UserWindow(("i3", "i5"), ("click",) * 2, (30, 50), (0.0, 0.0)), {}, 5)
    cache.apply([(5, row(place_of_event(5), "i5")), (6, row(place_of_event(6), "i6"))], 6)
    window, _, as_of = cache.get("u")
    assert window.items == ("i3", "i5", "i6") and as_of == 6
    cache.apply([(6, row(place_of_event(6), "i6"))], 6)
    assert cache.get("u")[0].items == ("i3", "i5", "i6")


def test_as_of_advances_with_commits_that_are_somebody_elses() -> None:
    cache, _ = cache_of(1)
    assert cache.get("u").as_of == 1
    cache.apply([(2, row(place_of_event(2), "i2", user="other"))], 2)
    cache.apply([], 9)
    assert cache.get("u") == Known(UserWindow(("i1",), ("click",), (10,), (0.0,)), {}, 9)
    cache.apply([], 4)
    assert cache.get("u").as_of == 9, "it never goes back"


def test_a_decision_stands_behind_what_it_knew_and_before_what_came_meanwhile() -> None:
    cache, _ = cache_of(1, 2)
    as_of = cache.get("u").as_of
    cache.apply([(3, row(place_of_event(3), "i3"))], 3)
    cache.show(row(place_of_decision(as_of), "first", kind="shown"))
    cache.show(row(place_of_decision(as_of), "second", kind="shown"))
    assert cache.get("u")[0].items == ("i2", "first", "second", "i3"), "the last four"
    cache.show(row(place_of_decision(0), "too old", kind="shown"))
    assert cache.get("u")[0].items == ("i2", "first", "second", "i3")


def test_what_was_not_used_for_longest_is_forgotten_first() -> None:
    cache, loaded = cache_of(1, capacity=2)
    for user in ("a", "b", "a", "c", "a", "b"):
        cache.get(user)
    assert loaded == ["a", "b", "c", "b"]
    cache.forget("a")
    cache.show(row(9, "lost", user="a"))
    assert cache.get("a")[0].items == ("i1",) and loaded[-1] == "a"


def test_an_item_is_closed_up_to_its_time_and_that_time_included() -> None:
    known = Known(UserWindow(), {"a": 10, "b": 9, "c": 11}, 0)
    assert known.closed_at(10) == ("a", "c")


def test_a_decision_stands_after_all_it_knew_and_before_what_came_next() -> None:
    assert place_of_event(4) < place_of_decision(4) < place_of_event(5)
