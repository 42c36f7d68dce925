"""Fitted Q iteration against closed forms: a small MDP whose Q the linear form contains, and regressions by hand."""

import numpy as np
import pytest
import torch

from qurate.learning.fitted_q import (
    Effect,
    Fit,
    FitTo,
    Greedy,
    Regression,
    effect_of_items,
    fitted_q,
    held_out_errors,
    ridge_solver,
    strongest_as_good,
)

N, ACTIONS, GAMMA = 4, 2, 0.9
REWARD = torch.tensor([[0.0, 1.0], [0.5, 0.0], [0.0, 3.0], [0.0, 0.2]], dtype=torch.float64)
NEXT = torch.tensor([[1, 0], [2, 0], [3, 0], [0, 3]])
"""Going on (action 0) pays nothing until the third state, where action 1 pays 3; staying near the start pays 1 at once."""


def exact_q() -> torch.Tensor:
    """Q* [N, A] by value iteration."""
    q = torch.zeros(N, ACTIONS, dtype=torch.float64)
    for _ in range(2_000):
        q = REWARD + GAMMA * q.amax(1)[NEXT]
    return q


def one_hot(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """phi: a constant, and one column per state and action but the first."""
    hot = torch.nn.functional.one_hot(state * ACTIONS + action, N * ACTIONS).double()
    return torch.cat([torch.ones(len(state), 1, dtype=torch.float64), hot[:, 1:]], dim=1)


def solved(copies: int = 50, counted: torch.Tensor | None = None, ridge: float = 1e-6) -> tuple[Fit, torch.Tensor]:
    """The fit on every state and action so many times, and the `later` it gives them, [N, A]."""
    state = torch.arange(N).repeat_interleave(ACTIONS).repeat(copies)
    action = torch.arange(ACTIONS).repeat(N * copies)
    following = NEXT[state, action]

    def greedy(theta: torch.Tensor) -> Greedy:
        every = torch.stack([one_hot(following, torch.full_like(following, a)) for a in range(ACTIONS)], dim=1)
        best = (REWARD[following] + (every @ theta)[:, :, 0]).argmax(1)
        rows = torch.arange(len(best))
        return Greedy(every[rows, best], REWARD[following, best][:, None])

    ones = torch.ones(len(state), dtype=torch.float64)
    data = Regression(
        one_hot(state, action), torch.zeros(len(state), 1, dtype=torch.float64), GAMMA * ones, ones if counted is None else counted
    )
    fit = fitted_q(data, greedy, ridge)
    everything = one_hot(torch.arange(N).repeat_interleave(ACTIONS), torch.arange(ACTIONS).repeat(N))
    return fit, (everything @ fit.theta)[:, 0].view(N, ACTIONS)


def test_it_reaches_the_exact_q_of_a_small_mdp() -> None:
    fit, later = solved()
    q = exact_q()
    assert torch.allclose(REWARD + later, q, atol=0.02)
    assert (REWARD + later).argmax(1).tolist() == q.argmax(1).tolist() != REWARD.argmax(1).tolist()
    assert fit.change < 1e-3 and fit.improvements < 12


def test_transitions_without_a_successor_do_not_count() -> None:
    copies, per_copy = 50, N * ACTIONS
    counted = torch.ones(copies * per_copy, dtype=torch.float64)
    counted[: 10 * per_copy] = 0
    assert torch.allclose(solved(copies, counted)[1], solved(copies)[1], atol=1e-3)


def test_a_large_penalty_leaves_the_constant_only() -> None:
    later = solved(ridge=1e12)[1]
    assert float(later.max() - later.min()) < 1e-3 < float(later.mean())


def test_components_add_up_to_the_whole() -> None:
    """Rewards split over two components give weights that sum to those of their sum."""
    rng = np.random.default_rng(0)
    features = torch.cat([torch.ones(200, 1), torch.from_numpy(rng.normal(size=(200, 3)))], 1).double()
    reward, discount = torch.from_numpy(rng.normal(size=(200, 2))), torch.full((200,), 0.5, dtype=torch.float64)
    after = torch.cat([torch.ones(200, 1), torch.from_numpy(rng.normal(size=(200, 3)))], 1).double()

    def parts(of: torch.Tensor) -> torch.Tensor:
        data = Regression(features, of, discount, torch.ones(200, dtype=torch.float64))
        return fitted_q(data, lambda theta: Greedy(after, torch.zeros_like(of)), 10.0).theta.sum(1)

    assert torch.allclose(parts(reward), parts(reward.sum(1, keepdim=True)), atol=1e-9)


def test_the_ridge_regression_is_that_of_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(2.0, 3.0, size=(300, 2)), rng.normal(size=300)
    features = torch.from_numpy(np.column_stack([np.ones(300), x, np.full(300, 7.0)]))
    weights = ridge_solver(features, torch.ones(300, dtype=torch.float64), 50.0)(torch.from_numpy(y)[:, None])[:, 0].numpy()
    z = np.column_stack([np.ones(300), x / x.std(0)])
    penalty = np.diag([0, 50.0, 50.0])
    by_hand = np.linalg.solve(z.T @ z + penalty, z.T @ y) / np.r_[1.0, x.std(0)]
    assert weights[:3] == pytest.approx(by_hand, abs=2e-3)
    assert weights[3] == 0, "a second constant says nothing"


def test_held_out_errors_prefer_a_penalty_where_there_are_few_rows_and_none_where_there_are_many() -> None:
    rng = np.random.default_rng(2)

    def best_of(rows: int) -> int:
        """0: the weak penalty, 1: the strong one."""
        x = torch.from_numpy(np.column_stack([np.ones(rows), rng.normal(size=(rows, 20))]))
        y = (x @ torch.full((21, 1), 0.1, dtype=torch.float64)) + torch.from_numpy(rng.normal(size=(rows, 1)))
        none = Greedy(torch.zeros_like(x), torch.zeros_like(y))
        data = Regression(x, y, torch.ones(rows, dtype=torch.float64), torch.ones(rows, dtype=torch.float64))
        half = Regression(*(part[: rows // 2] for part in data)), Regression(*(part[rows // 2 :] for part in data))
        bests = [Greedy(*(part[: rows // 2] for part in none)), Greedy(*(part[rows // 2 :] for part in none))]
        return strongest_as_good(held_out_errors(*half, *bests, torch.zeros(21, 1, dtype=torch.float64), (1.0, 1e5)))

    assert best_of(30_000) == 0
    assert best_of(60) == 1


def test_a_stronger_penalty_that_is_as_good_is_taken() -> None:
    noise = torch.from_numpy(np.random.default_rng(3).normal(size=400))
    least = torch.ones(400, dtype=torch.float64)
    errors = torch.stack([least + 0.5, least, least + 0.01 + noise, least + 1 + 0.1 * noise], dim=1)
    assert strongest_as_good(errors) == 2


def test_what_grows_without_end_is_no_fit() -> None:
    """A successor that is worth twice its predecessor, undiscounted: every regression doubles theta."""
    x = torch.tensor([[1.0, -1.0], [1.0, 1.0], [1.0, -2.0], [1.0, 2.0]], dtype=torch.float64)
    one = torch.ones(4, dtype=torch.float64)
    data = Regression(x, x[:, 1:], one, one)
    assert fitted_q(data, lambda theta: Greedy(2 * x, x[:, 1:]), 0.0).diverged
    assert fitted_q(data, lambda theta: Greedy(x, x[:, 1:] * torch.inf), 0.0).diverged
    assert not solved()[0].diverged


def logged_effect(true: float, customers: int, seed: int = 0) -> Effect:
    """Items whose number x changes what follows by `true` x, in a log of a policy that does not look at the state."""
    rng = np.random.default_rng(seed)
    customer = np.repeat(np.arange(customers), 20)
    state, x = rng.normal(size=customers)[customer], rng.normal(size=len(customer))
    returns = 2.0 * state + true * x + rng.normal(size=customers)[customer] + rng.normal(size=len(customer))
    features = torch.from_numpy(np.column_stack([np.ones(len(customer)), state, x, rng.normal(size=len(customer))]))
    y = torch.from_numpy(returns + 0.5 * x)  # the targets' own error: they say that x is worth .5 more than it is
    ones = torch.ones_like(y)
    data = Regression(features, y[:, None], ones, ones)
    return effect_of_items(data, one_regression(data, y), torch.from_numpy(returns), torch.from_numpy(customer), 2)


def one_regression(data: Regression, y: torch.Tensor) -> FitTo:
    """Fits the targets y."""
    return lambda rows: ridge_solver(data.features, data.counted * rows, 10.0)(y[:, None])[:, 0]


def test_an_effect_of_items_shows_in_the_rewards_that_followed() -> None:
    effect = logged_effect(1.0, 400)
    assert effect.slope == pytest.approx(1 / 1.5, abs=0.06) and effect.share == 1.0
    nothing = [logged_effect(0.0, 400, seed) for seed in range(60)]
    t = np.array([one.slope / one.standard_error for one in nothing])
    assert abs(t.mean()) < 0.4 and 0.7 < t.std() < 1.3, "the standard error is that of the slope"
    assert np.mean([one.share for one in nothing]) < 0.18


def test_errors_of_one_customer_depend_on_each_other() -> None:
    """A reward that each customer repeats counts once: the error is that of so many customers, not of so many rows."""
    rng = np.random.default_rng(1)
    customer, ts = np.repeat(np.arange(200), 20), []
    for _ in range(40):
        x = rng.normal(size=200)[customer]  # always the same kind of item
        returns = rng.normal(size=200)[customer] + 0.1 * rng.normal(size=len(customer))
        y = torch.from_numpy(x + 0.0)
        data = Regression(torch.from_numpy(np.column_stack([np.ones(len(x)), x])), y[:, None], torch.ones_like(y), torch.ones_like(y))
        effect = effect_of_items(data, one_regression(data, y), torch.from_numpy(returns), torch.from_numpy(customer), 1)
        ts.append(effect.slope / effect.standard_error)
    assert 0.7 < np.std(ts) < 1.4


def test_few_customers_or_items_without_numbers_judge_nothing() -> None:
    assert logged_effect(0.0, 49).share == 1.0
    ones = torch.ones(2_000, dtype=torch.float64)
    data = Regression(torch.stack([ones, 0 * ones], dim=1), ones[:, None], ones, ones)
    assert effect_of_items(data, one_regression(data, ones), ones, torch.arange(2_000) // 10, 1).share == 1.0


def test_customers_are_judged_by_what_others_taught() -> None:
    """Each customer is left out of one fit, with all rows, and predicted by that one."""
    customer = torch.arange(100) % 59  # rows of a customer must not fall into one fold by their numbers
    features = torch.ones((100, 2), dtype=torch.float64)
    ones, used = torch.ones(100, dtype=torch.float64), list[torch.Tensor]()

    def fit_to(rows: torch.Tensor) -> torch.Tensor:
        used.append(rows)
        return torch.ones(2, dtype=torch.float64)

    effect_of_items(Regression(features, ones[:, None], ones, ones), fit_to, ones, customer, 1)
    left_out = ~torch.stack(used)
    assert (left_out.sum(0) == 1).all(), "every row is left out once"
    assert all((left_out[:, customer == one].any(1).sum() == 1) for one in range(59)), "all rows of a customer together"


@pytest.mark.parametrize(("slope", "share"), [(-5.0, 0.0), (0.9, 0.0), (1.0, 0.0), (1.5, 0.5), (2.0, 1.0), (9.0, 1.0)])
def test_what_is_kept_grows_with_certainty(slope: float, share: float) -> None:
    assert Effect(slope * 0.2, 0.2).share == pytest.approx(share)
