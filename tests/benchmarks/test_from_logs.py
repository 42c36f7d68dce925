"""The table of benchmarks/from_logs.py: means and paired differences of what the lines hold."""

from pathlib import Path

import from_logs


def line(seed: int, dqn: float, static: float) -> dict[str, object]:
    means = {"dqn": dqn, "static": static, "myopic": 10.0, "popularity": 5.0}
    return {"study": "shop", "customers": 600, "seed": seed, "means": means, "code": "x"}


def test_the_table_pairs_by_seed() -> None:
    row = from_logs.table([line(1, 30.0, 20.0), line(2, 50.0, 38.0)]).splitlines()[-1]
    assert row.startswith("| shop | 600 | 10% | 1, 2 | 40.0 [") and "| 29.0 | 10.0 | 5.0 |" in row
    assert "+11.0 [-1.7, 23.7]" in row, "t of one degree of freedom, 12.7, times the standard error of 10 and 12"


def test_logs_of_other_exploration_stand_apart() -> None:
    rows = from_logs.table([line(1, 30.0, 20.0), line(1, 50.0, 38.0) | {"exploration": 0.02}]).splitlines()[2:]
    assert [row.split(" | ")[2] for row in rows] == ["10%", "2%"]


def test_seeds_and_lines_are_read(tmp_path: Path) -> None:
    assert from_logs.seeds_of("20-22") == [20, 21, 22] and from_logs.seeds_of("5,7") == [5, 7]
    assert from_logs.read(tmp_path / "none") == []


def other(seed: int, algorithm: str, mean: float, **given: str) -> dict[str, object]:
    return {"study": "shop", "customers": 600, "seed": seed, "algorithm": algorithm, "set": given, "mean": mean, "code": "x"}


def test_others_are_paired_with_dqn_and_the_static_list_of_their_seeds_and_choices_stand_apart() -> None:
    lines = [line(1, 30.0, 20.0), line(2, 50.0, 38.0), other(2, "cql", 45.0), other(1, "cql", 27.0), other(100, "cql", 60.0, cql_alpha="5")]
    head, _, own, trial = from_logs.others_table(lines).splitlines()  # type: ignore[arg-type]
    assert head.split(" | ")[2:4] == ["algorithm", "besides"]
    assert own.startswith("| shop | 600 | cql |  | 1, 2 | 36.0 [") and "| -4.0 [-16.7, 8.7] | +7.0 [7.0, 7.0] |" in own
    assert trial == "| shop | 600 | cql | cql_alpha=5 | 100 | 60.0 |  |  |"
    assert from_logs.table(lines).count("\n") == 2, "the other table has dqn's own rows alone"  # type: ignore[arg-type]
