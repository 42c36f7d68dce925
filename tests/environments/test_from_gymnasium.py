"""Gymnasium tasks as engines: no transition lost, none invented, whatever the autoreset mode; mistakes in one line."""

import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from counting import (
    Counting,
    MaskInInfo,
    MaskInObservation,
    NothingLegal,
    OneStep,
    Showing,
    Spoilt,
    length,
    mask_at,
)  # fmt: skip
from qurate.environments.from_gymnasium import GymnasiumEngine, make_task, task_engine
from qurate.errors import Code, UserError
from qurate.types import Feedback

MODES = list(AutoresetMode)


def engine_of(make: Callable[[], gymnasium.Env], mode: AutoresetMode = AutoresetMode.SAME_STEP, async_: bool = False) -> GymnasiumEngine:
    kind = AsyncVectorEnv if async_ else SyncVectorEnv
    return GymnasiumEngine(lambda n: kind([make] * n, autoreset_mode=mode), "counted")


def actions_of(mask: np.ndarray, step: int) -> np.ndarray:
    """A legal action for each lane."""
    return np.array([np.flatnonzero(row)[step % int(row.sum())] for row in mask])


def expected_life(seed: int, steps: int) -> list[tuple[int, int]]:
    """(episode, step) that a lane of `Counting` is in before each decision."""
    out, episode, t = [], 0, 0
    for _ in range(steps):
        out.append((episode, t))
        t += 1
        if t == length(seed, episode):
            episode, t = episode + 1, 0
    return out


@pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_every_transition_of_a_counting_environment_is_known(mode: AutoresetMode, async_: bool) -> None:
    engine, n, steps = engine_of(Counting, mode, async_), 5, 40
    seen = engine.reset(7, n)
    lives = [expected_life(7 + lane, steps + 1) for lane in range(n)]
    ended = 0
    for step in range(steps):
        before = np.array([[7 + lane, *lives[lane][step]] for lane in range(n)], np.float32)
        assert np.array_equal(seen.state.numbers, before) and seen.state.numbers.dtype == np.float32
        actions = actions_of(seen.actions.mask, step)
        fb = engine.step(actions)
        episode, t = before[:, 1], before[:, 2]
        assert np.array_equal(fb.reward, 100 * episode + t + 1 + 0.25 * actions) and fb.reward.dtype == np.float32
        assert np.array_equal(fb.components, fb.reward[:, None])
        over = t + 1 == [length(7 + lane, int(episode[lane])) for lane in range(n)]
        assert np.array_equal(fb.terminated, over & (episode % 2 == 1)) and np.array_equal(fb.truncated, over & (episode % 2 == 0))
        if over.any():
            assert np.array_equal(fb.final.numbers, np.stack([before[:, 0], episode, t + 1], 1)), "each lane's true successor"
        else:
            assert fb.final is None and fb.final_actions is None
        assert np.array_equal(fb.clock, np.full(n, step + 1)) and not fb.pause.any() and len(fb.rows.lane) == 0
        seen, ended = fb.obs, ended + int(over.sum())
    assert ended > 50
    engine.close()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("make", [MaskInObservation, MaskInInfo])
def test_masks_belong_to_the_state_they_stand_beside(make: type[Counting], mode: AutoresetMode) -> None:
    engine, n = engine_of(make, mode), 4
    seen = engine.reset(0, n)
    assert np.array_equal(seen.actions.candidates, np.tile([1, 2, 3, 4], (n, 1))) and seen.actions.mask.dtype == np.int8
    finals = 0
    for step in range(30):
        _, episode, t = seen.state.numbers.T.astype(int)
        assert np.array_equal(seen.actions.mask, [mask_at(e, s) for e, s in zip(episode, t)])
        fb = engine.step(actions_of(seen.actions.mask, step))
        if fb.final_actions is not None:
            expected = np.array([mask_at(e, s + 1) for e, s in zip(episode, t)])
            assert np.array_equal(fb.final_actions.mask[~fb.terminated], expected[~fb.terminated])
            assert fb.final_actions.mask[fb.terminated].all()
            finals += int(fb.truncated.sum())
        seen = fb.obs
    assert finals > 10 and engine.spec.numbers_shape == (3,), "the mask is no part of the state"


def test_an_illegal_action_is_refused() -> None:
    engine = engine_of(MaskInInfo)
    seen = engine.reset(0, 2)
    assert seen.actions.mask[0].tolist() == [0, 1, 1, 1]
    with pytest.raises(UserError, match="actions that the mask allows") as caught:
        engine.step(np.array([1, 0]))
    assert caught.value.code is Code.ILLEGAL_ACTION
    engine.step(np.array([1, 1]))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_nothing_legal_names_the_step(mode: AutoresetMode) -> None:
    engine = engine_of(NothingLegal, mode)
    engine.reset(2, 3)  # episodes of 4, 2 and 3 steps: only the second one ends where nothing is legal, by truncation
    engine.step(np.zeros(3, np.int64))
    with pytest.raises(UserError, match=r"at least one legal action, got none in lane 0, at counted, step 2; see action_mask"):
        engine.step(np.zeros(3, np.int64))


def test_episodes_of_one_step() -> None:
    engine = engine_of(OneStep)
    seen = engine.reset(3, 2)
    for step in range(5):
        assert seen.state.numbers[:, 1:].tolist() == [[step, 0], [step, 0]]
        fb = engine.step(np.array([1, 3]))
        assert fb.reward.tolist() == [1, 3] and fb.terminated.all() and fb.final.numbers[:, 1:].tolist() == [[step, 1], [step, 1]]
        seen = fb.obs


def lives_of(engine: GymnasiumEngine, seed: int, n: int, steps: int) -> list[list[bytes]]:
    seen, out = engine.reset(seed, n), [[] for _ in range(n)]
    for _ in range(steps):
        fb: Feedback = engine.step(np.zeros(n, np.int64))
        for lane in range(n):
            out[lane].append(seen.state.numbers[lane].tobytes() + fb.reward[lane].tobytes())
        seen = fb.obs
    return out


def test_cartpole_lane_i_is_the_task_seeded_with_seed_plus_i() -> None:
    engine = make_task("CartPole-v1")
    assert engine.spec == ((4,), np.float32, (), 2) and engine.max_steps == 500 and engine.item_ids == ["0", "1"]
    many = lives_of(engine, 20, 3, 60)
    assert many == lives_of(engine, 20, 3, 60), "reproducible, also on environments used before"
    assert len({life[0] for life in many}) == 3
    for lane in range(3):
        assert lives_of(make_task("CartPole-v1"), 20 + lane, 1, 60)[0] == many[lane]
    env = gymnasium.make("CartPole-v1")
    first, _ = env.reset(seed=21)
    assert many[1][0] == first.tobytes() + np.float32(1).tobytes()


def test_cartpole_truncates_at_500_and_terminates_where_it_falls() -> None:
    engine = make_task("CartPole-v1")
    seen = engine.reset(0, 1)
    for _ in range(200):
        fb = engine.step(np.zeros(1, np.int64))
        assert fb.terminated[0] == (fb.final is not None) and not fb.truncated[0]
        if fb.terminated[0]:
            assert abs(fb.final.numbers[0, 2]) > 0.2 or abs(fb.final.numbers[0, 0]) > 2.4
    limit = engine_of(lambda: gymnasium.wrappers.TimeLimit(gymnasium.make("CartPole-v1").unwrapped, 3))
    seen = limit.reset(0, 2)
    for step in range(3):
        fb = limit.step(np.array([0, 1]))
        assert fb.truncated.all() == (step == 2) and not fb.terminated.any()
        last, seen = seen, fb.obs
    assert np.abs(fb.final.numbers - last.state.numbers).max() < 1, "one step after the last state, not the next episode's first"
    assert not np.array_equal(fb.final.numbers, fb.obs.state.numbers)


def test_discrete_spaces_with_a_start() -> None:
    taken: list[int] = []

    class Shifted(Counting):
        action_space = spaces.Discrete(3, start=5)

        def step(self, action: Any) -> Any:
            taken.append(int(action))
            return super().step(action)

    engine = engine_of(Shifted)
    assert engine.item_ids == ["5", "6", "7"] and engine.n_items == engine.spec.n_actions == 3
    engine.reset(0, 3)
    engine.step(np.array([0, 1, 2]))
    assert taken == [5, 6, 7]


@pytest.mark.parametrize(
    "actions,text",
    [
        (np.array([0, 4]), "actions from 0 to 3, got [0, 4]"),
        (np.array([-1, 0]), "actions from 0 to 3, got [-1, 0]"),
        (np.array([0]), "int64 actions of shape [2], got int64 [1]"),
        (np.array([0.0, 1.0]), "int64 actions of shape [2], got float64 [2]"),
    ],
)
def test_bad_actions_are_refused(actions: np.ndarray, text: str) -> None:
    engine = engine_of(Counting)
    engine.reset(0, 2)
    with pytest.raises(UserError) as caught:
        engine.step(actions)
    assert text in str(caught.value) and caught.value.code is Code.BAD_ACTION


@pytest.mark.parametrize(
    "part,value,text",
    [
        ("observation", np.array([1, np.nan, 1], np.float32), "finite float32 observations, got observation = nan"),
        ("observation", np.array([1, -np.inf, 1], np.float32), "finite float32 observations, got observation = -inf"),
        ("observation", np.zeros(2, np.float32), "an environment that runs, got ValueError"),
        ("observation", {"x": 1}, "an environment that runs, got"),
        ("observation", None, "an environment that runs, got ValueError"),
        ("reward", float("nan"), "a finite reward below 1e+15, got nan"),
        ("reward", float("inf"), "a finite reward below 1e+15, got inf"),
        ("reward", -1e30, "a finite reward below 1e+15, got -1e+30"),
        ("reward", "much", "an environment that runs, got ValueError"),
        ("reward", None, "a finite reward below 1e+15, got nan"),
        ("mask", np.ones(3, np.int8), "action_mask of shape [4], got shape [3]"),
        ("mask", np.zeros(4, np.int8), "at least one legal action, got none in lane 0"),
        ("mask", [1, 0], "action_mask of shape [4], got shape [2]"),
        ("mask", np.array([-np.inf, 0, 0, 0]), "0 or 1 in action_mask, got -inf"),  # added to scores it would say the contrary
        ("mask", np.array([1, 0.5, 0, 0]), "0 or 1 in action_mask, got 0.5"),
        ("raise", ZeroDivisionError("by zero"), "an environment that runs, got ZeroDivisionError: by zero"),
        ("raise", SystemExit(3), "an environment that runs, got SystemExit: 3"),
    ],
)
def test_what_goes_wrong_is_one_line_that_names_the_step(part: str, value: Any, text: str) -> None:
    engine = engine_of(lambda: Spoilt(part, value))
    engine.reset(0, 2)
    engine.step(np.zeros(2, np.int64))
    with pytest.raises(UserError) as caught:
        engine.step(np.zeros(2, np.int64))
    assert f"expected {text}" in str(caught.value) and "at counted, step 2" in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.code is Code.BAD_ENV


def test_double_precision_beyond_float32_is_refused_not_infinite() -> None:
    engine = engine_of(lambda: Showing(spaces.Box(-np.inf, np.inf, (1,), np.float64), np.array([1e300])))
    with pytest.raises(UserError, match=r"finite float32 observations, got observation = 1e\+300, at counted, step 0"):
        engine.reset(0, 1)


def test_actions_must_be_discrete() -> None:
    box = spaces.Box(-1, 1, (2,), np.float32)
    with pytest.raises(UserError, match="a Discrete action space, got Box") as caught:
        engine_of(lambda: Showing(box, np.zeros(2, np.float32), box))
    assert caught.value.code is Code.BAD_ENV


@pytest.mark.filterwarnings("ignore")
def test_a_vector_environment_that_resets_all_lanes_is_refused() -> None:
    """Under NEXT_STEP its reset step would be learned as a transition that nobody decided."""
    engine = GymnasiumEngine(lambda n: CartPoleVectorEnv(n), "CartPole vector")
    engine.reset(0, 8)
    with pytest.raises(UserError, match=r"that can reset single lanes.*use autoreset mode SAME_STEP"):
        for step in range(200):
            engine.step(np.full(8, step % 2))


def test_an_undeclared_autoreset_mode_is_refused() -> None:
    def vector(n: int) -> VectorEnv:
        env = SyncVectorEnv([Counting] * n)
        env.metadata = {}
        return env

    with pytest.raises(UserError, match="declares its autoreset mode, got autoreset_mode = None"):
        GymnasiumEngine(vector, "x")


def test_a_resumed_engine_begins_new_episodes_and_always_the_same_ones() -> None:
    engine, other = make_task("CartPole-v1"), make_task("CartPole-v1")
    assert not engine.restores_exactly
    engine.reset(3, 2)
    for _ in range(5):
        engine.step(np.array([0, 1]))
    state = engine.state()
    first, second = engine.restore(state).state.numbers, other.restore(state).state.numbers
    assert np.array_equal(first, second)
    assert not np.array_equal(first, make_task("CartPole-v1").reset(3, 2).state.numbers), "not the first customers again"
    for _ in range(30):
        assert np.array_equal(engine.step(np.array([0, 1])).obs.state.numbers, other.step(np.array([0, 1])).obs.state.numbers)
    earlier = state | {"steps": state["steps"] - 1}
    assert not np.array_equal(other.restore(earlier).state.numbers, first), "saved at another step: other episodes"


def test_what_terminates_at_the_step_limit_is_terminated() -> None:
    class Both(Counting):
        def step(self, action: Any) -> Any:
            self.t += 1
            return self.seen(), float(action), True, True, {}

    engine = engine_of(Both)
    engine.reset(0, 2)
    fb = engine.step(np.zeros(2, np.int64))
    assert fb.terminated.all() and not fb.truncated.any()


def test_earlier_feedback_is_not_changed_by_later_steps() -> None:
    engine = engine_of(MaskInInfo)
    seen = engine.reset(0, 3)
    fb = engine.step(actions_of(seen.actions.mask, 0))
    parts = [fb.obs.state.numbers, fb.obs.actions.mask, fb.reward, fb.terminated, fb.truncated, fb.clock]
    kept = [part.copy() for part in parts]
    for _ in range(6):
        fb = engine.step(actions_of(fb.obs.actions.mask, 0))
    assert all(np.array_equal(a, b) for a, b in zip(parts, kept))


# names


def test_a_factory_of_the_users_own() -> None:
    engine = make_task("counting:counting")
    assert np.array_equal(engine.reset(4, 2).state.numbers, [[4, 0, 0], [5, 0, 0]]) and engine.max_steps is None
    assert make_task("counting:Counting").reset(4, 1).state.numbers.tolist() == [[4, 0, 0]], "a class is a factory"


def test_a_module_in_the_present_directory(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_env.py").write_text("import gymnasium\n\ndef make():\n    return gymnasium.make('CartPole-v1')\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    assert make_task("my_own_env:make").n_items == 2


@pytest.mark.parametrize(
    "name,text,code",
    [
        ("CartPole-v2", "did you mean CartPole-v", Code.UNKNOWN_ENVIRONMENT),
        ("xyzzy", "known: shop", Code.UNKNOWN_ENVIRONMENT),
        ("no_such_module_here:make", "the module no_such_module_here, got ModuleNotFoundError", Code.UNKNOWN_ENVIRONMENT),
        ("counting:countin", "a callable in counting, got countin, at env; did you mean counting?", Code.UNKNOWN_ENVIRONMENT),
        ("counting:not_callable", "a callable in counting, got not_callable, a int", Code.UNKNOWN_ENVIRONMENT),
        ("counting:fails", "an environment that runs, got OSError: the robot is unplugged (counting.py:", Code.BAD_ENV),
        ("counting:gives_text", "a factory that returns a gymnasium.Env, got str", Code.BAD_ENV),
        ("Pendulum-v1", "a Discrete action space, got Box", Code.BAD_ENV),
    ],
)
def test_mistakes_in_names_are_one_line(name: str, text: str, code: Code) -> None:
    with pytest.raises(UserError) as caught:
        make_task(name)
    assert text in str(caught.value) and "\n" not in str(caught.value) and caught.value.code is code, str(caught.value)


def test_a_module_that_fails_when_imported(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_env.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="the module broken_env, got RuntimeError: no licence") as caught:
        make_task("broken_env:make")
    assert caught.value.code is Code.BAD_ENV


def test_a_factory_that_gives_one_environment_twice_is_refused() -> None:
    engine = make_task("counting:always_the_same")
    with pytest.raises(UserError, match="a new environment from each call, got the same one twice"):
        engine.reset(0, 2)


def test_an_id_with_only_a_vector_entry_point() -> None:
    def vector(num_envs: int) -> VectorEnv:
        return SyncVectorEnv([Counting] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)

    gymnasium.register("CountedVector-v0", vector_entry_point=vector)
    try:
        engine = make_task("CountedVector-v0")
        assert np.array_equal(engine.reset(2, 3).state.numbers[:, 0], [2, 3, 4])
    finally:
        del gymnasium.registry["CountedVector-v0"]


class Refilling(Counting):
    """Gives one and the same array for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.array = np.zeros(3, np.float32)

    def seen(self) -> Any:
        self.array[:] = self.first, self.episode, self.t
        return self.array


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_an_environment_that_fills_one_array_again_and_again(mode: AutoresetMode) -> None:
    """The last observation of an episode is its own, and not the first one of the next."""
    engine, finals = task_engine(Refilling, "refilling", mode), 0
    seen = engine.reset(0, 3)
    for _ in range(20):
        before = seen.state.numbers
        fb = engine.step(np.zeros(3, np.int64))
        if fb.final is not None:
            assert np.array_equal(fb.final.numbers, before + np.array([0, 0, 1]))
            finals += 1
        seen = fb.obs
    assert finals > 5


class Giving(Counting):
    """Gives `wrong` at its second step."""

    def __init__(self, space: spaces.Space, right: Any, wrong: Any) -> None:
        super().__init__()
        self.observation_space, self.right, self.wrong = space, right, wrong

    def seen(self) -> Any:
        return self.wrong if self.t == 2 else self.right


BOX = spaces.Box(-1, 1, (3,), np.float32)
PAIR = spaces.Dict({"x": BOX, "in": spaces.Tuple([spaces.Discrete(9), BOX])})


@pytest.mark.parametrize(
    "space,right,wrong,text",
    [
        (BOX, np.zeros(3), np.zeros(4), "observation of shape [3], got shape [4]"),
        (BOX, np.zeros(3), 0.5, "observation of shape [3], got shape []"),
        (BOX, np.zeros(3), None, "observation, an array of numbers, got None"),
        (BOX, np.zeros(3), [[1], [2, 3]], "observation, an array of numbers, got [[1], [2, 3]]"),
        (spaces.Discrete(9), 1, 1.5, "observation of int64, got float64"),
        (PAIR, {"x": np.zeros(3), "in": (1, np.zeros(3))}, {"x": np.zeros(3), "in": (1, np.zeros(1))}, "observation['in'][1] of shape [3]"),
        (PAIR, {"x": np.zeros(3), "in": (1, np.zeros(3))}, {"x": np.zeros(3), "in": (1,)}, "observation['in'] with 1, got (1,)"),
        (PAIR, {"x": np.zeros(3), "in": (1, np.zeros(3))}, {"y": 1}, "observation with 'in', got {'y': 1}"),
    ],
)
def test_an_observation_that_does_not_fit_its_space_is_named(space: spaces.Space, right: Any, wrong: Any, text: str) -> None:
    engine = task_engine(lambda: Giving(space, right, wrong), "giving")
    engine.reset(1, 2)  # of three and of four steps
    engine.step(np.zeros(2, np.int64))
    with pytest.raises(UserError) as caught:
        engine.step(np.zeros(2, np.int64))
    assert f"expected {text}" in str(caught.value) and "at giving, step 2" in str(caught.value), str(caught.value)


def test_what_an_environment_raises_is_told_with_its_place() -> None:
    engine = task_engine(lambda: Spoilt("raise", ZeroDivisionError("by zero")), "spoilt")
    engine.reset(0, 1)
    engine.step(np.zeros(1, np.int64))
    with pytest.raises(UserError, match=r"got ZeroDivisionError: by zero \(counting\.py:\d+\), at spoilt, step 2"):
        engine.step(np.zeros(1, np.int64))


def test_the_limit_of_a_time_limit_is_known_though_gymnasium_has_no_entry() -> None:
    limit = gymnasium.wrappers.TimeLimit
    assert task_engine(Counting, "counted").max_steps is None
    assert task_engine(lambda: limit(limit(Counting(), 7), 9), "counted").max_steps == 7
