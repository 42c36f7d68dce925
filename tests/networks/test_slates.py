"""Slates under conditional choice: worth by hand, the optimisers against every slate there is."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from qurate.networks.slates import Choices, SlateOptimiser, best_slate, masses, slate_scores, slate_value


def random_choices(rows: int, k: int, seed: int) -> Choices:
    g = torch.Generator().manual_seed(seed)
    mass, nothing = torch.rand(rows, k, generator=g) * 2 + 0.01, torch.rand(rows, generator=g) * 3 + 0.01
    return Choices(mass, torch.randn(rows, k, generator=g) * 5, nothing, torch.randn(rows, generator=g) * 5)


def worth(choices: Choices, slate: tuple[int, ...], row: int = 0) -> float:
    """Expected value of what is chosen of `slate`, item by item."""
    m, q = choices.mass[row].double().numpy(), choices.value[row].double().numpy()
    m0, q0 = float(choices.nothing_mass[row]), float(choices.nothing_value[row])
    total = m0 + sum(m[i] for i in slate)
    return float(sum(m[i] / total * q[i] for i in slate) + m0 / total * q0)


def test_the_worth_of_a_slate_by_hand() -> None:
    choices = Choices(torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([[10.0, 4.0, 1.0]]), torch.tensor([2.0]), torch.tensor([3.0]))
    assert slate_value(choices.at(torch.tensor([[0, 1]]))).item() == pytest.approx((10 + 8 + 6) / 5)
    assert slate_value(choices.at(torch.tensor([[2, 1]]))).item() == pytest.approx((5 + 8 + 6) / 9)
    none = choices._replace(mass=torch.zeros(1, 3))
    assert slate_value(none).item() == pytest.approx(3.0), "nothing to choose from is nothing"


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_exact_is_the_best_of_all_slates(k: int) -> None:
    choices = random_choices(60, 7, k)
    slate = best_slate(choices, k, "exact")
    found = slate_value(choices.at(slate))
    for row in range(60):
        best = max(worth(choices, some, row) for some in combinations(range(7), k))
        assert len(set(slate[row].tolist())) == k
        assert found[row].item() == pytest.approx(best, abs=1e-4)


def test_topk_and_greedy_are_those_of_the_paper() -> None:
    choices = random_choices(60, 7, 5)
    top, greedy = best_slate(choices, 3, "topk"), best_slate(choices, 3, "greedy")
    for row in range(60):
        weighted = (choices.mass * choices.value)[row].numpy()
        assert top[row].tolist() == np.argsort(-weighted)[:3].tolist()
        built: list[int] = []
        for _ in range(3):
            built.append(max((i for i in range(7) if i not in built), key=lambda i: worth(choices, (*built, i), row)))
        assert greedy[row].tolist() == built
    many = random_choices(5_000, 7, 6)
    exact = slate_value(many.at(best_slate(many, 3, "exact")))
    for other in ("topk", "greedy"):
        less = exact - slate_value(many.at(best_slate(many, 3, other)))
        assert (less >= -1e-4).all() and (less > 1e-3).any(), "there are slates that the heuristics do not find"


@pytest.mark.parametrize("how", ["exact", "greedy", "topk"])
def test_what_is_no_candidate_comes_last_and_order_does_not_matter(how: SlateOptimiser) -> None:
    choices = random_choices(20, 6, 9)
    closed = torch.zeros(20, 6, dtype=torch.bool)
    closed[:, 1] = closed[:10, 4] = True
    choices = choices._replace(mass=choices.mass.masked_fill(closed, 0), value=choices.value - 100)
    scores = slate_scores(choices, 3, how)
    assert ((scores == -torch.inf) == closed).all()
    assert not closed.gather(1, best_slate(choices, 3, how)).any()
    order = torch.as_tensor(list(permutations(range(6)))[433])
    mixed = Choices(choices.mass[:, order], choices.value[:, order], choices.nothing_mass, choices.nothing_value)
    assert (order[best_slate(mixed, 3, how)] == best_slate(choices, 3, how)).all()
    few = choices._replace(mass=choices.mass.masked_fill(torch.arange(6) > 0, 0))
    assert (best_slate(few, 3, how)[:, 0] == 0).all(), "a single candidate is shown"


def test_masses_are_those_of_the_conditional_logit_whatever_their_size() -> None:
    logits, nothing = torch.tensor([[0.0, 1.0, -2.0], [400.0, 399.0, 0.0]]), torch.tensor([0.5, -300.0])
    mass, of_nothing = masses(logits, nothing, torch.tensor([[False, False, True], [False, False, False]]))
    p = mass / (mass.sum(1, keepdim=True) + of_nothing[:, None])
    e = np.exp([0.0, 1.0, 0.5])
    assert p[0].tolist() == pytest.approx([e[0] / e.sum(), e[1] / e.sum(), 0])
    assert p[1].tolist() == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0], abs=1e-6) and bool((of_nothing > 0).all())


def test_an_open_item_that_is_hardly_ever_chosen_is_no_closed_one() -> None:
    mass, _ = masses(torch.tensor([[0.0, -120.0, 0.0]]), torch.zeros(1), torch.tensor([[False, False, True]]))
    assert mass[0, 1] > 0 and mass[0, 2] == 0
