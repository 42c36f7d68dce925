"""Fitted Q iteration with a linear form, by least squares: no step size, no order of batches, no early stopping.

Fitted Q iteration (Ernst et al. 2005, JMLR 6:503-556) regresses Q on y = r + gamma max_a' Q(s', a') again and again. With

    later(s, a) = phi(s, a) . theta   and   Q = now + later,

each regression is a ridge regression on the same matrix, so that one factorisation serves all of them:

    theta <- (Phi' W Phi + ridge D)^-1 Phi' W (r_later + discount (now(s', a*) + phi(s', a*) theta)),   a* = argmax_a' Q(s', a')

where r_later are the rewards of steps 2..n, W drops transitions whose successor was never observed, and D scales the penalty by the
features' own variances (the constant is free). The maximum over the catalogue is what costs, so several regressions share each a*
(modified policy iteration, Puterman and Shin 1978; least-squares policy iteration, Lagoudakis and Parr 2003, JMLR 4:1107-1149).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

RIDGES = (1_000.0, 3_000.0, 10_000.0, 30_000.0)
"""Penalties that are tried, in rows: the weight of a feature of variance 1 is halved where there are so many rows. Weaker ones earned no
more from 120,000 rows and less from 12,000 (docs/from_logs.md)."""
FIRST_RIDGE = 1_000.0
IMPROVEMENTS, SWEEPS = 12, 15
"""New a* at most, and regressions with each. Sixty steps of discount .97 are left of an error after four of them."""
SETTLED, DIVERGED = 1e-3, 0.5
"""It ends where `later` changes by less than the first, in units of its own standard deviation. Where the last change of all is not
finite, or larger than the second, it has diverged; in between, a* of some successors goes back and forth between items of like value."""


class Regression(NamedTuple):
    """T transitions of a log; float64 but for the theta that comes of it."""

    features: Tensor  # [T, D] phi(s, a)
    reward: Tensor  # [T, R] discounted rewards of steps 2..n
    discount: Tensor  # [T] of the successor; 0 = terminated
    counted: Tensor  # [T] 0 where the successor was never observed


class Greedy(NamedTuple):
    """The best item of each successor; zeros where nothing could be shown."""

    features: Tensor  # [T, D] phi(s', a*)
    now: Tensor  # [T, R] now(s', a*)


FOLDS, LEAST_CUSTOMERS = 5, 50
"""Groups of customers, each judged by weights fitted to the others; below so many customers nothing is judged."""
NOTHING, CERTAIN = 1.0, 2.0
"""In standard errors of the slope: below the first, nothing of the items' part is kept; above the second, all of it."""


class Effect(NamedTuple):
    """The slope of a regression: rewards that followed a decision on what `later` predicts for the item that was shown."""

    slope: float  # 0 = the item changed nothing later; 1 = as much as `later` predicts
    standard_error: float

    @property
    def share(self) -> float:
        """What is kept of the items' part of `later`, 0..1: firm shrinkage (Gao and Bruce 1997, Statistica Sinica 7:855-874)."""
        if not math.isfinite(self.standard_error):
            return 1.0
        certainty = self.slope / max(self.standard_error, 1e-12)
        return min(max((certainty - NOTHING) / (CERTAIN - NOTHING), 0.0), 1.0)


GreedyOf = Callable[[Tensor], Greedy]
"""theta float64 [D, R] -> the best item of each successor under it."""


class Fit(NamedTuple):
    """What the iteration ended with."""

    theta: Tensor  # float64 [D, R]
    improvements: int  # how often a* was chosen anew
    change: float  # of `later` by the last improvement, in units of its standard deviation

    @property
    def diverged(self) -> bool:
        """Whether the iteration did not converge: theta must not be used."""
        return not self.change < DIVERGED or not bool(torch.isfinite(self.theta).all())


def ridge_solver(features: Tensor, counted: Tensor, ridge: float) -> Callable[[Tensor], Tensor]:
    """Targets [T, M] -> weights [D, M] of the ridge regression on the counted rows. Column 0 is the constant, free of penalty.

    Columns that are constant elsewhere get the weight 0.
    """
    weighted = features * counted[:, None]
    rows = counted.sum().clamp(min=1)
    mean = weighted.sum(0) / rows
    std = ((features - mean).square() * counted[:, None]).sum(0).div(rows).sqrt()
    constant = std <= 1e-8 * (mean.abs() + 1e-8)
    scale = torch.where(constant, torch.zeros_like(std), 1 / torch.where(constant, torch.ones_like(std), std))
    scale[0] = 1.0
    penalty = torch.full_like(std, ridge)
    penalty[0] = 1e-9
    penalty[1:][constant[1:]] = 1.0
    factor = torch.linalg.cholesky(scale[:, None] * (weighted.T @ features) * scale + torch.diag(penalty))
    return lambda targets: scale[:, None] * torch.cholesky_solve(scale[:, None] * (weighted.T @ targets), factor)


def fitted_q(data: Regression, greedy: GreedyOf, ridge: float) -> Fit:
    """The weights of `later` by component.

    Args:
        data: the transitions.
        greedy: the maximum over what could be shown.
        ridge: see `RIDGES`. It begins at theta = 0, with which a* is myopic.
    """
    solve = ridge_solver(data.features, data.counted, ridge)
    theta = data.features.new_zeros(data.features.shape[1], data.reward.shape[1])
    change, improvements = float("inf"), 0
    while improvements < IMPROVEMENTS and change >= SETTLED:
        best, before = greedy(theta), theta
        discount = data.discount[:, None]
        fixed, moved = solve(data.reward + discount * best.now), solve(discount * best.features)
        for _ in range(SWEEPS):
            theta = fixed + moved @ theta
        size = (data.features @ theta).std().clamp(min=1e-12)
        change, improvements = float((data.features @ (theta - before)).std() / size), improvements + 1
        if not math.isfinite(change):
            break
    return Fit(theta, improvements, change)


def targets(data: Regression, best: Greedy, theta: Tensor) -> Tensor:
    """What `later` is regressed on, [T], summed over the components."""
    return (data.reward + data.discount[:, None] * (best.now + best.features @ theta)).sum(1)


def held_out_errors(data: Regression, held: Regression, best: Greedy, best_held: Greedy, theta: Tensor, ridges: Sequence[float]) -> Tensor:
    """Squared errors on held-out transitions of ridge regressions on the targets that `theta` gives, [counted rows, penalties].

    All of them predict the same targets, so that they can be compared; errors against their own targets could not.
    """
    y, there = targets(data, best, theta)[:, None], held.counted > 0
    fits = torch.cat([ridge_solver(data.features, data.counted, ridge)(y) for ridge in ridges], dim=1)
    return ((held.features @ fits)[there] - targets(held, best_held, theta)[there, None]).square()


def strongest_as_good(errors: Tensor) -> int:
    """Which column: the last whose mean error is within one standard error of the least (Breiman et al. 1984, sec. 3.4.3).

    The columns are ordered from the weakest penalty to the strongest. Where few rows cannot tell two apart, the stronger one is
    the safer: what the maximum over a catalogue does with a weight that is only noise, no held-out error shows.

    Args:
        errors: [rows, penalties], paired by row.
    """
    best = int(errors.mean(0).argmin())
    worse = errors - errors[:, best : best + 1]
    standard_error = worse.std(0) / len(errors) ** 0.5
    return int(torch.nonzero(worse.mean(0) <= standard_error)[-1])


FitTo = Callable[[Tensor], Tensor]
"""Which transitions may be used, bool [T] -> weights of `later` fitted to them alone, summed over the components, float64 [D]."""


def effect_of_items(data: Regression, fit_to: FitTo, returns: Tensor, customer: Tensor, n_state: int) -> Effect:
    """Whether customers who were shown items with a high `later` earned more afterwards.

    `later` may find effects of items where there are none: they come from the errors of its own values, by which its targets are
    made, and from noise. Here the whole iteration, targets included, is repeated without the customers who are judged (cross-fitting,
    Chernozhukov et al. 2018, Econometrics Journal 21:C1-C68), and its predictions are compared with rewards alone. Under the policy of
    the log an effect is smaller than under the best one, so that slopes below 1 are usual. A personalised policy shows the better
    customers better items: there the slope is above 0 without any effect, and nothing is dropped.

    Args:
        data: T transitions.
        returns: discounted rewards that followed, float64 [T], nothing bootstrapped.
        customer: int64 [T]; errors of one customer depend on each other (Liang and Zeger 1986, Biometrika 73:13-22).
        n_state: the first columns, which depend on the state alone.
    """
    who = torch.unique(customer, return_inverse=True)[1]
    n_customers = int(who.max()) + 1 if len(who) else 0
    if n_customers < LEAST_CUSTOMERS:
        return Effect(math.nan, math.inf)
    predicted = torch.zeros_like(returns)
    for fold in range(FOLDS):
        mine = who % FOLDS == fold
        predicted[mine] = data.features[mine, n_state:] @ fit_to(~mine)[n_state:]
    # both without what the state explains (Frisch and Waugh 1933): a regression on one column is left
    state = data.features[:, :n_state]
    solve = ridge_solver(state, torch.ones_like(returns), 1.0)
    predicted, followed = (column - (state @ solve(column[:, None]))[:, 0] for column in (predicted, returns))
    size = float(predicted.square().sum())
    if size <= 1e-12 * len(predicted):
        return Effect(math.nan, math.inf)
    slope = float(predicted @ followed) / size
    by_customer = predicted.new_zeros(n_customers).index_add_(0, who, predicted * (followed - slope * predicted))
    return Effect(slope, float(by_customer.square().sum().sqrt()) / size)
