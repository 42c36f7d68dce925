"""The table of a world from its lines."""

import pytest
from worlds import FIELDS, means, renewed, table

ROWS = {"dqn": ("candidate", (3.0, 5.0)), "random": ("baseline", (2.0, 3.0)), "true_myopic": ("reference", (2.0, 2.0)),
        "planner": ("reference", (6.0, 6.0))}  # fmt: skip


def lines(rows: dict[str, tuple[str, tuple[float, float]]] = ROWS) -> list[dict[str, str]]:
    common = {"page": "news", "world": "news", "worlds_code": "0", "learner": "dqn", "steps": "20000"}
    return [
        common | {"seed": str(seed), "policy": name, "role": role, "mean": str(mean), "decisions": "10"}
        for name, (role, values) in rows.items()
        for seed, mean in enumerate(values)
    ]


def test_rows_stand_by_falling_return_with_paired_differences() -> None:
    made = table(lines()).splitlines()
    assert [line.split(" | ")[0] for line in made[2:6]] == [
        "| planner (reference)", "| dqn, 20,000 decisions", "| random", "| true-myopic (reference)",
    ]  # fmt: skip
    assert "| 4.00 [-8.71, 16.71] | 10.0 |  |" in made[3], "its own mean of two seeds, t = 12.7"
    assert "+1.50 [-4.85, +7.85]" in made[4], "differences of 1 and 2, paired by seed"


def test_the_place_between_the_references() -> None:
    assert "dqn stands at 0.50 [-2.68, 3.68]" in table(lines()), "a quarter and three quarters"
    same = ROWS | {"planner": ("reference", (2.0, 2.0))}
    assert "nothing to gain by foresight" in table(lines(same))


def test_one_seed_has_no_interval() -> None:
    one = [line for line in lines() if line["seed"] == "0"]
    assert "| dqn, 20,000 decisions | 3.00 | 10.0 |  |" in table(one)


def test_what_is_measured_again_replaces_its_own_lines_alone() -> None:
    new = [line | {"mean": "9.0", "worlds_code": "1"} for line in lines() if line["policy"] == "dqn"]
    other = [line | {"world": "live"} for line in new]
    made = renewed(lines(), [*new, *other, new[0] | {"seed": "7"}])
    assert [line["policy"] for line in made] == [line["policy"] for line in lines()]
    assert means(made)["dqn"] == {0: 9.0, 1: 9.0} and means(made)["random"] == means(lines())["random"]


def test_lines_have_the_fields_of_the_file() -> None:
    assert set(lines()[0]) == set(FIELDS)
    assert means(lines())["random"] == pytest.approx({0: 2.0, 1: 3.0})
