"""The closed loop by commands: what a service logged teaches the next model, and the next model is better."""

import json
from pathlib import Path
from typing import Any

import apsw
import pytest

from scripts import load_script
from test_cli import run

Capture = pytest.CaptureFixture[str]

EXAMPLE = Path(__file__).parent.parent / "examples" / "closed_loop.py"


@pytest.mark.study
def test_a_service_learns_from_its_own_customers(tmp_path: Path, capsys: Capture) -> None:
    """The slice: 5,500 decisions over HTTP. The lift is paired over 5 seeds of 300 fresh customers each."""
    found = load_script(EXAMPLE).closed_loop(tmp_path, 100, 55, updates=300, customers=300)
    assert found["lift_ci"][0] > 0, found
    check_what_was_written(tmp_path, found["log"], 100, 55, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_a_service_writes_trains_the_next_model(tmp_path: Path, capsys: Capture) -> None:
    """Too few customers for a lift: every decision and propensity is in the log, and the second model answers.

    Only the services have processes of their own.
    """
    example = load_script(EXAMPLE)

    def in_this_process(*command: object) -> dict[str, Any]:
        capsys.readouterr()  # what the example says
        code, out, err = run(capsys, *map(str, command), "--json", "--quiet")
        assert code == 0, err
        return dict(json.loads(out))

    example.__dict__["qurate"] = in_this_process
    found = example.closed_loop(tmp_path, 40, 15, updates=20, seeds=2, customers=10)
    check_what_was_written(tmp_path, found["log"], 40, 15, capsys)


def check_what_was_written(tmp_path: Path, log: dict[str, Any], lanes: int, rounds: int, capsys: Capture) -> None:
    assert (log["kind"], log["decisions"], log["items"], log["rejected"]) == ("logged", lanes * rounds, 300, 0)

    store = apsw.Connection(str(tmp_path / "data" / "events.sqlite"))
    served = lanes * (rounds + 5)
    assert list(store.execute("SELECT count(*), count(DISTINCT decision_id), count(degraded) FROM decisions")) == [(served, served, 0)]
    assert list(store.execute("SELECT count(*) FROM events WHERE decision_id NOT IN (SELECT decision_id FROM decisions)")) == [(0,)]
    told = {round(json.loads(text)[0], 9) for (text,) in store.execute("SELECT DISTINCT propensity FROM decisions")}
    known = {round(share + 0.5 / n, 9) for n in range(250, 301) for share in (0.0, 0.5)}  # what was bought is not shown again
    assert {round(0.5 / 300, 9), round(0.5 + 0.5 / 300, 9)} <= told <= known
    ((explored,),) = store.execute("SELECT avg(json_extract(propensity, '$[0]') < 0.1) FROM decisions")
    assert abs(explored - 0.5 * 299 / 300) < 4 * (0.25 / served) ** 0.5

    features = json.loads((tmp_path / "model-2" / "features.json").read_text())
    assert [column["name"] for column in features["users"]["columns"]] == ["price_band", "segment"]  # came with the requests
    assert json.loads((tmp_path / "model-2" / "config.json").read_text())["supports_cold_start"] is True
    capsys.readouterr()  # what the example says
    code, out, _ = run(capsys, "recommend", str(tmp_path / "model-2"), "--user", "c101_0", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["degraded"] is None and len(answer["items"]) == 10
