"""What `bench_http.py` compares with: the same answer from a plain FastAPI server with eager torch, one request at a time.

    PYTHONPATH=DIR_WITH_FASTAPI python benchmarks/fastapi_server.py ITEMS DIR

The same network over the same items, the same windows, epsilon-greedy with propensities, by the calls one would write first.
It keeps nothing on disk (what the service does before it answers), has no bounds on bodies and no masks: it does less.
"""

import random
import socket
import sys
import time
import uuid
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

from qurate.bench.load import WINDOW, untrained
from qurate.decision import HistoryRows
from qurate.models.answer import observe

EPSILON = 0.1


class Ask(BaseModel):
    user_id: str = Field(min_length=1, max_length=256)
    k: int = Field(default=10, ge=1, le=1000)


class Item(BaseModel):
    item_id: str
    score: float
    propensity: float
    source: str


class Answer(BaseModel):
    decision_id: str
    user_id: str
    items: list[Item]
    policy: str
    model_version: str
    degraded: str | None = None


class Click(BaseModel):
    event_id: str
    type: str
    user_id: str
    item_id: str
    timestamp: int


class Clicks(BaseModel):
    events: list[Click]


def make_app(n_items: int) -> FastAPI:
    """The application."""
    app = FastAPI()
    model = untrained(n_items).model
    ranker = model.ranker
    names, catalogue = model.vocabulary.items, np.arange(1, n_items + 1)
    number = {name: i + 1 for i, name in enumerate(names)}
    windows: dict[str, list[tuple[int, int]]] = {}

    @app.post("/v1/events")
    async def events(clicks: Clicks) -> dict[str, Any]:
        for click in clicks.events:
            windows.setdefault(click.user_id, []).append((number[click.item_id], click.timestamp * 1000))
            del windows[click.user_id][:-WINDOW]
        return {"accepted": len(clicks.events), "duplicates": 0, "rejected": [], "durable": False}

    @app.post("/v1/recommend")
    async def recommend(ask: Ask) -> Answer:
        rows = np.array(windows.get(ask.user_id, ()), np.int64).reshape(-1, 2)
        history = HistoryRows(rows[:, 0], np.ones(len(rows), np.int64), rows[:, 1], np.zeros(len(rows), np.float32))
        observation = observe(model, [history], np.array([time.time_ns() // 1000]), catalogue)
        with torch.no_grad():
            scores = ranker.action_values(observation.state).all()[0, 1:]
            order = iter(torch.topk(scores, min(ask.k, n_items)).indices.tolist())
        shown: list[int] = []
        items = []
        best = next(order)
        for place in range(min(ask.k, n_items)):
            left = n_items - place
            while best in shown:
                best = next(order)
            chosen, source = best, "q"
            if random.random() < EPSILON:
                chosen, source = random.choice([i for i in range(n_items) if i not in shown]), "explore"
            propensity = EPSILON / left + (1 - EPSILON) * (chosen == best)
            shown.append(chosen)
            items.append(Item(item_id=names[chosen], score=float(scores[chosen]), propensity=propensity, source=source))
        return Answer(
            decision_id=uuid.uuid4().hex, user_id=ask.user_id, items=items, policy="dqn/epsilon_greedy", model_version=model.version
        )

    return app


if __name__ == "__main__":
    torch.set_num_threads(1)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(make_app(int(sys.argv[1])), loop="uvloop", http="httptools", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])
