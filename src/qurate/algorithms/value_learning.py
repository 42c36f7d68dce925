"""Temporal-difference targets and errors: pure functions in the notation of the papers.

`tm1` is the time of the decision, `t` the time of its successor. Shapes stand in every signature. Discount 0 means
terminated; nothing here knows about episodes, devices or logging.
"""

import torch
from torch import Tensor

from qurate.networks.catalogue_max import MASKED_VALUE


def masked_argmax(q_t: Tensor, mask_t: Tensor) -> Tensor:
    """The best allowed action, int64 [B], for q_t [B, N] and mask_t bool [B, N]; ties go to the first."""
    return q_t.masked_fill(~mask_t, MASKED_VALUE).argmax(1)


def q_target(r_t: Tensor, discount_t: Tensor, q_t: Tensor) -> Tensor:
    """r + discount * q of the successor's action; any equal shapes.

    With the best action by the same network: Q-learning (Watkins 1989; Mnih et al. 2015, eq. 2). Picked by the online
    network and valued by the target network: double Q-learning (van Hasselt et al. 2016, eq. 4). With the action that
    was taken: SARSA (Rummery and Niranjan 1994).
    """
    return r_t + discount_t * q_t


def error_loss(error: Tensor, kind: str) -> Tensor:
    """Elementwise loss of errors: half the square, or Huber with delta 1 (Mnih et al. 2015).

    The mean minimises the square; Huber's minimiser is not the mean and can reverse the order of items whose rewards
    are rare and large.

    Args:
        kind: "squared" or "huber".
    """
    if kind == "huber":
        return torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none")
    return 0.5 * error.square()


def expectile_loss(error: Tensor, expectile: float, of: Tensor) -> Tensor:
    """|expectile - 1(of < 0)| times half the square, elementwise (Kostrikov et al. 2021, arXiv:2110.06169, eq. 5).

    Args:
        error: target minus prediction.
        of: whose sign decides the side: the error itself, or where errors are parts of a sum, the sum; it broadcasts. Then the
            predictions' sum is the expectile of the targets' sum, and each part has its share of it.
    """
    return torch.where(of < 0, 1 - expectile, expectile) * 0.5 * error.square()


def now_later_targets(r_t: Tensor, later_r_t: Tensor, discount_t: Tensor, q_t: Tensor, bootstrap: Tensor) -> tuple[Tensor, Tensor]:
    """Targets of `now` and `later`, [B, 2R], and which of them count, [B, 2R].

    now -> r_t; later -> later_r_t + discount_t * q_t. `now` needs no successor, so a censored transition still counts there.

    Args:
        r_t, later_r_t, q_t: [B, R]; later_r_t are the discounted rewards of steps 2..n.
        discount_t, bootstrap: [B, 1]; bootstrap 0 where the successor was never observed.
    """
    later = q_target(later_r_t, discount_t, q_t)
    return torch.cat([r_t, later], 1), torch.cat([torch.ones_like(later), bootstrap.expand_as(later)], 1)
