"""docs/service.md: every request in it is sent to a real service, and answered in the shape that is written there."""

import http.client
import json
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from forked import Forked, command
from qurate.baselines.registry import random_policy
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.training.train import train

PAGE = (Path(__file__).parent.parent / "docs" / "service.md").read_text(encoding="utf-8")
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXCHANGES = [line for block in CONSOLE.findall(PAGE) for line in block.splitlines()]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("docs")
    simulate(make_engine("shop"), random_policy(), 40, 6, 0, folder / "events.parquet")
    dataset = build_dataset(read_events(folder / "events.parquet"), episode="user")
    train(dataset, steps=2, window=5, hidden=8, embedding_dim=4, batch_size=16).save(folder / "model")
    process = Forked(folder / "said", command, ["serve", str(folder / "model"), "--data", str(folder / "data"), "--port", "0"])
    while not (found := re.search(r" at (http://\S+)\n", process.errors)):
        assert process.process.is_alive(), process.errors
        time.sleep(0.05)
    yield found[1]
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(20)[0] == 0


def test_the_page_shows_requests_and_answers() -> None:
    assert len(EXCHANGES) >= 12 and all(line.startswith("$ curl -s http://127.0.0.1:8000/") for line in EXCHANGES[::2])


def test_every_request_is_answered_as_written(address: str) -> None:
    place = urlsplit(address)
    for typed, written in zip(EXCHANGES[::2], EXCHANGES[1::2]):
        _, _, url, *data = shlex.split(typed[2:])
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=20)
        connection.request("POST" if data else "GET", urlsplit(url).path, data[1] if data else None)
        answer = json.loads(connection.getresponse().read())
        assert shape(answer) == shape(json.loads(written)), typed
        for fixed in ("degraded", "detail", "rejected", "accepted", "code", "live"):
            assert answer.get(fixed) == json.loads(written).get(fixed), typed


def shape(value: Any) -> Any:
    """Names and types, without the values."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    return [shape(part) for part in value] if isinstance(value, list) else type(value).__name__
