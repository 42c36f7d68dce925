"""Atari games by ale-py's vector environment: what our engine makes of them. Skipped without ale-py, but for what is said then."""

import sys
from itertools import pairwise

import numpy as np
import pytest

from qurate.environments.atari import atari_vectors, is_atari
from qurate.environments.from_gymnasium import GymnasiumEngine, make_task
from qurate.errors import UserError
from qurate.types import Feedback

STEPS = 100
FIRE = 1


def play(engine: GymnasiumEngine, seed: int, n: int, steps: int = STEPS) -> list[Feedback]:
    """Random legal actions."""
    observation, rng, out = engine.reset(seed, n), np.random.default_rng(0), []
    for _ in range(steps):
        mask = observation.actions.mask
        feedback = engine.step((rng.random(mask.shape) * mask).argmax(1))
        observation = feedback.obs
        out.append(feedback)
    return out


def test_without_ale_py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UserError, match=r"no ale-py, at env ALE/Breakout-v5; pip install 'qurate\[atari\]'"):
        make_task("ALE/Breakout-v5")


def test_which_ids_are_atari_games() -> None:
    assert [is_atari(name) for name in ("ALE/Pong-v5", "PongNoFrameskip-v4", "CartPole-v1", "shop", "a.b:c")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.fixture
def installed() -> None:
    pytest.importorskip("ale_py")


@pytest.mark.usefixtures("installed")
class TestBreakout:
    def test_shapes_and_limits(self) -> None:
        engine = make_task("ALE/Breakout-v5")
        assert (engine.spec.numbers_shape, engine.spec.n_actions, engine.frames, engine.max_steps) == ((4, 84, 84), 4, 4, 27_000)
        observation = engine.reset(0, 3)
        assert observation.state.numbers.shape == (3, 4, 84, 84) and observation.state.numbers.dtype == np.uint8
        engine.close()

    def test_the_same_seed_is_the_same_games_and_successive_stacks_share_three_frames(self) -> None:
        engine = make_task("ALE/Breakout-v5")
        one, two, other = (play(engine, seed, 2) for seed in (0, 0, 5))
        for a, b in zip(one, two):
            assert np.array_equal(a.obs.state.numbers, b.obs.state.numbers) and np.array_equal(a.reward, b.reward)
        assert any(not np.array_equal(a.obs.state.numbers, b.obs.state.numbers) for a, b in zip(one, other))
        for before, after in pairwise(one):
            goes_on = ~(after.terminated | after.truncated)
            assert np.array_equal(after.obs.state.numbers[goes_on, :-1], before.obs.state.numbers[goes_on, 1:])

    def test_a_lost_life_goes_on_and_the_first_action_of_a_life_is_fire(self) -> None:
        engine = make_task("ALE/Breakout-v5")
        assert engine.reset(1, 4).actions.mask.tolist() == [[0, 1, 0, 0]] * 4
        played = play(engine, 1, 4, 400)
        lost = np.array([feedback.life_lost for feedback in played])
        over = np.array([feedback.terminated for feedback in played])
        only_fire = np.array([feedback.obs.actions.mask.sum(1) == 1 for feedback in played])
        assert np.array_equal(only_fire, lost | over) and not (lost & over).any()
        for lane in range(4):
            games = np.split(lost[:, lane], np.flatnonzero(over[:, lane]) + 1)[:-1]
            assert games and all(game.sum() == 4 for game in games), "five lives: four are lost before the game is over"

    def test_a_step_in_two_parts_is_the_same_step(self) -> None:
        engine, other = make_task("ALE/Breakout-v5"), make_task("ALE/Breakout-v5")
        for each in (engine, other):
            each.reset(3, 2)
        for _ in range(30):
            engine.send(np.array([FIRE, FIRE]))
            one, two = engine.receive(), other.step(np.array([FIRE, FIRE]))
            assert np.array_equal(one.obs.state.numbers, two.obs.state.numbers)

    def test_a_game_is_truncated_and_shows_its_last_stack(self) -> None:
        engine = GymnasiumEngine(atari_vectors("BreakoutNoFrameskip-v4", max_num_frames_per_episode=80), "short")
        ends = [feedback for feedback in play(engine, 2, 2, 60) if feedback.truncated.any()]
        assert ends and not any(feedback.terminated.any() for feedback in ends)
        for feedback in ends:
            assert feedback.final.numbers[feedback.truncated][:, 0].any(), "four real frames"
            assert not feedback.obs.state.numbers[feedback.truncated][:, 0].any(), "a new game begins with empty ones"

    def test_rewards_are_as_the_game_pays_them_and_v4_ids_have_no_sticky_actions(self) -> None:
        sticky, plain = make_task("ALE/MsPacman-v5"), make_task("MsPacmanNoFrameskip-v4")
        assert max(float(feedback.reward.max()) for feedback in play(sticky, 0, 2)) >= 10
        paths = [[feedback.reward.tolist() for feedback in play(engine, 7, 2)] for engine in (sticky, plain, plain)]
        assert paths[0] != paths[1] == paths[2]

    @pytest.mark.parametrize("name", ["ALE/Brekout-v5", "BrekoutNoFrameskip-v4"])
    def test_an_unknown_game_is_one_line(self, name: str) -> None:
        with pytest.raises(UserError, match=f"a known Atari game, got {name}.*did you mean {name.replace('Brek', 'Break')}"):
            make_task(name)
