"""The table of a sweep from its lines."""

from sweep import COLUMNS, table


def test_rows_by_strength_with_paired_differences() -> None:
    def lines(strength: str, dqn: tuple[float, float], myopic: tuple[float, float]) -> list[dict[str, str]]:
        values = dict.fromkeys(COLUMNS, (1.0, 1.0)) | {"dqn": dqn, "myopic": myopic}
        common = {"page": "live", "world": f"live,strength={strength}", "steps": "20000"}
        return [common | {"seed": str(s), "policy": name, "mean": str(of[s])} for name, of in values.items() for s in (0, 1)]

    made = table(lines("2", (3.0, 5.0), (2.0, 3.0)) + lines("0.5", (4.0, 4.0), (4.0, 4.0))).splitlines()
    assert made[2].startswith("| 0.5 | 1.00 | 1.00 | 4.00 | 4.00 [4.00, 4.00] | 1.00 | 1.00 | +0.00")
    assert made[3] == "| 2 | 1.00 | 1.00 | 2.50 | 4.00 [-8.71, 16.71] | 1.00 | 1.00 | +1.50 [-4.85, +7.85] | +3.00 [-9.71, +15.71] |"
    assert made[-1].endswith("20,000 decisions of each learner, seeds 0, 1, 1,000 customers each.")
