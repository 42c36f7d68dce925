"""The shop: customers of an online shop who click, fill carts, buy, tire, lose or gain trust, leave and return.

docs/scenarios/shop.md explains every parameter and the headroom. What one shows now changes what comes later in three ways, each
scaled by `strength` (0: nothing shown changes anything later; 1: as documented; 2: twice that):

* trust: a running memory of the quality of what the customer met. It moves with every item shown a little, with a
  click more, with a purchase most, and raises clicks, carts, staying and coming back.
* satiation: each category tires the more it was shown and clicked; rest and pauses heal.
* postponed purchases: some carts are paid only after the visit.

Tastes themselves may change once, for everybody, whatever is shown (`drift_day`).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.environments.arrivals import ARRIVALS_S, EPOCH_US, first_visits
from qurate.environments.catalogue_features import catalogue_features
from qurate.environments.customers import (
    all_stay,
    choose,
    comes_back,
    probabilities,
    pull,
    rest,
    segment_tastes,
    segments,
    tastes_moved,
    tire,
    visit_ends,
)
from qurate.environments.engine import Outcome
from qurate.environments.history_rows import Group
from qurate.environments.rng import Keys, normals, purposes, uniforms
from qurate.errors import Code, UserError
from qurate.types import ALWAYS, NEVER, Availability, FloatArray, IntArray

CART, CLICK, PURCHASE, SHOWN = 1, 2, 3, 4  # alphabetical, like the types of a dataset read from a log
SECOND = 1_000_000
DAY = 86_400 * SECOND

N_CATEGORIES, N_SEGMENTS = 20, 6
PRICE_BANDS = ("low", "middle", "high")


@dataclass(frozen=True, slots=True)
class ShopParameters:
    """All constants of the scenario. Logits unless a unit is given; sources in docs/scenarios/shop.md."""

    # the catalogue
    deal_share: float = 0.3  # share of items that are deep-discount deals
    deal_quality: float = -0.5  # mean quality of deals, in [-1, 1]
    regular_quality: float = 0.3  # mean quality of the others
    quality_spread: float = 0.25  # standard deviation of quality within each kind
    rating_noise: float = 0.15  # of the visible rating, in stars
    discount_appeal: float = 1.5  # click logit per unit of discount
    discount_conversion: float = 0.5  # cart logit per unit of discount
    # customers
    liked_categories: int = 4  # per segment
    like: float = 1.6  # preference for a liked category; the others are at dislike
    dislike: float = -0.9
    taste_noise: float = 0.6  # standard deviation of a customer's own taste per category
    segment_seen: float = 0.85  # probability that the visible segment is the true one
    trust_start: float = 0.1  # mean trust of a new customer, in [-1, 1]
    # the funnel
    click_base: float = -2.4
    cart_base: float = -2.0
    cart_taste: float = 0.5  # cart logit per unit of present interest (preference less satiation)
    cart_quality: float = 0.5  # cart logit per unit of quality
    paid: float = 0.5  # probability that a cart is paid
    postponed: float = 0.25  # share of the paid carts that are paid after the visit, times min(strength, 1)
    trust_click: float = 0.9  # click logit per unit of trust
    trust_cart: float = 0.5
    # dynamics, per unit of strength
    learn_shown: float = 0.05  # share of the way from trust to the item's quality, each time
    learn_click: float = 0.2
    learn_purchase: float = 0.2
    tire_shown: float = 0.3  # satiation added to the category
    tire_click: float = 0.3
    rest: float = 0.85  # satiation kept from step to step
    rest_hours: float = 24.0  # e-folding time of satiation during a pause, hours
    # visits
    leave_base: float = -2.0
    leave_trust: float = 0.8  # leave logit per unit of lost trust
    return_base: float = 1.0
    return_trust: float = 1.2
    pause_least_h: float = 10.0
    pause_mean_h: float = 30.0  # mean of the exponential part, hours


class Catalogue:
    """The shop's items: visible columns and what drives the customers, arrays [N] (row 0 = item 1)."""

    def __init__(self, n_items: int, seed: int, p: ShopParameters) -> None:
        rng = np.random.default_rng([seed, 20_260_101])
        self.category = rng.permutation(n_items) % N_CATEGORIES
        deal = rng.random(n_items) < p.deal_share
        self.quality = np.clip(np.where(deal, p.deal_quality, p.regular_quality) + p.quality_spread * rng.normal(size=n_items), -1, 1)
        self.rating = np.round(np.clip(3.6 + self.quality + p.rating_noise * rng.normal(size=n_items), 1, 5), 1)
        self.discount = np.round(np.where(deal, rng.uniform(0.4, 0.7, n_items), rng.uniform(0.0, 0.1, n_items)), 2)
        self.log_price = rng.normal(size=n_items)
        self.price = np.round(np.exp(3.0 + 0.6 * self.log_price), 2)
        self.appeal = 0.3 * rng.normal(size=n_items) + p.discount_appeal * self.discount
        self.conversion = p.discount_conversion * self.discount + p.cart_quality * self.quality


class Shop:
    """`World` of the engine. Latent state per lane: taste [B, 20], satiation [B, 20], price sensitivity, trust, pending cart.

    Args:
        n_items: catalogue size.
        strength: of everything that what is shown changes later, 0 to 2.
        world_seed: which catalogue and which segments.
        parameters: see ShopParameters.
        drift_day: days after the first arrivals at which all tastes switch, 0 to 10,000; 0 = they never do.
        drift: share of the taste for each category that moves to the next one at the switch, 0 to 1.
    """

    has_values = False
    with_replacement = False
    rows_per_step = 5  # shown, click, cart, purchase, a postponed purchase
    state_names: tuple[str, ...] = ("taste", "satiation", "sensitivity", "trust", "pending", "pending_since")

    def __init__(
        self,
        n_items: int = 300,
        strength: float = 1.0,
        world_seed: int = 0,
        parameters: ShopParameters | None = None,
        *,
        drift_day: float = 0.0,
        drift: float = 1.0,
    ) -> None:
        for name, value, high in (("strength", strength, 2), ("drift_day", drift_day, 10_000), ("drift", drift, 1)):
            if not 0 <= value <= high:
                raise UserError(f"{name} from 0 to {high:,}", str(value), where="shop", code=Code.BAD_ARGUMENT)
        if drift != 1 and not drift_day:
            hint = "without a day, tastes never switch"
            raise UserError("a drift_day with drift", "none", where="shop", hint=hint, code=Code.BAD_ARGUMENT)
        if n_items < 2:
            raise UserError("at least 2 items", str(n_items), where="n_items", code=Code.BAD_ARGUMENT)
        p = self.p = parameters or ShopParameters()
        self.strength, self.drift = strength, drift
        self.switch_us = EPOCH_US + round(drift_day * DAY) if drift_day else NEVER
        if drift_day:
            self.state_names = (*Shop.state_names, "clock")
        self.catalogue = c = Catalogue(n_items, world_seed, p)
        width = len(str(n_items))
        self.item_ids = [f"item_{i:0{width}d}" for i in range(1, n_items + 1)]
        self.type_names = ["cart", "click", "purchase", "shown"]
        self.component_names = ["click", "cart", "purchase"]
        self.component_weights = np.array([1, 2, 5], np.float32)
        self.availability = Availability.always(n_items)
        self.item_features, self.feature_names = catalogue_features(self._columns())
        self.user_feature_names = [f"segment={segment_name(i)}" for i in range(N_SEGMENTS)] + [f"price_band={x}" for x in PRICE_BANDS]
        rng = np.random.default_rng([world_seed, 6])
        self.segment_taste = segment_tastes(rng, (N_SEGMENTS, N_CATEGORIES), p.liked_categories, p.like, p.dislike)
        # what the kernel reads, negated logits of click, cart, leaving, then log price and quality: [5, N + 1], column 0 unused
        logits = [c.appeal + p.click_base, c.conversion + p.cart_base, np.full(n_items, p.leave_base)]
        table = np.column_stack([*(-x for x in logits), c.log_price, c.quality])
        self.item_table = np.vstack([np.zeros(5), table]).T.astype(np.float32).copy()
        self.item_category = np.concatenate([[0], c.category]).astype(np.int64)
        interest, trust, price = (1.0, p.cart_taste, 0.0), (p.trust_click, p.trust_cart, -p.leave_trust), (1.0, 1.0, 0.0)
        self._interest, self._trust, self._price = (np.array([x], np.float32).T for x in (interest, trust, price))
        self._learn_shown, self._learn_click = p.learn_shown * strength, p.learn_click * strength
        self._learn_purchase = p.learn_purchase * strength
        self._tire_shown, self._tire_click = p.tire_shown * strength, p.tire_click * strength
        self._postponed = p.paid * p.postponed * min(strength, 1.0)
        self._step_draws = purposes(0, 3)
        self._visit_draws = purposes(3, 2)
        self._latent_draws = purposes(1 << 32, N_CATEGORIES + 1)
        self._trait_draws = purposes((1 << 32) + 64, 5)

    def items_table(self) -> pl.DataFrame:
        """item_id, category, price, rating (stars), discount (share): what the shop shows on its pages."""
        return pl.DataFrame({"item_id": self.item_ids} | self._columns())

    def _columns(self) -> dict[str, NDArray[np.str_] | NDArray[np.float64]]:
        c = self.catalogue
        names = np.array([category_name(int(i)) for i in c.category])
        return {"category": names, "price": c.price, "rating": c.rating, "discount": c.discount}

    def allocate(self, n: int) -> None:
        self.n = n
        self.taste = np.zeros((n, N_CATEGORIES), np.float32)
        self.satiation = np.zeros((n, N_CATEGORIES), np.float32)
        self.sensitivity = np.zeros(n, np.float32)
        self.trust = np.zeros(n, np.float32)
        self.pending = np.zeros(n, np.int64)  # item of an unpaid cart, 0 = none
        self.pending_since = np.zeros(n, np.int64)  # the decision that led to it
        self.clock = np.zeros(n, np.int64)  # microseconds since 1970; kept only where tastes switch
        self._row = np.arange(n, dtype=np.int64) * N_CATEGORIES
        self._all_stay = all_stay(n)

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        p, m = self.p, len(lanes)
        u = uniforms(keys, self._trait_draws)
        z = normals(keys, self._latent_draws)
        segment, seen = segments(u[[0, 2, 3]], N_SEGMENTS, p.segment_seen)
        self.taste[lanes] = self.segment_taste[segment] + p.taste_noise * z[:N_CATEGORIES].T
        if self.switch_us < NEVER:
            self.clock[lanes] = first_visits(keys, ARRIVALS_S)
            self._switch(lanes[self.clock[lanes] >= self.switch_us])
        self.satiation[lanes] = 0
        self.sensitivity[lanes] = u[1]
        self.trust[lanes] = np.clip(p.trust_start + 0.2 * z[N_CATEGORIES], -1, 1)
        self.pending[lanes] = 0
        band = np.clip((u[1] + 0.3 * (u[4] - 0.5)) * 3, 0, 2).astype(np.int64)
        user = np.zeros((m, len(self.user_feature_names)), np.float32)
        user[np.arange(m), seen] = 1
        user[np.arange(m), N_SEGMENTS + band] = 1
        return user

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        draws = uniforms(stream, self._step_draws)
        luck = draws[0]
        components = np.zeros((self.n, 3), np.float32)
        seconds = (draws[2] * 23).astype(np.int64) + 8
        if items.ndim == 1:
            category, table, chances = self.meet(items, self._row, self.sensitivity, self.trust)
            clicked = luck < chances[0]
            position = np.where(clicked, 0, -1)
            shown_quality = quality = table[4]
            groups = [Group(SHOWN, None, items, 0)]
        else:
            items, luck, position, category, chances, quality, shown_quality = self._choose(items, luck)
            clicked = position >= 0
            groups = []
        components[:, 0] = clicked
        click = components[:, 0]
        learn = click * self._learn_click
        clickers = clicked.nonzero()[0]
        if clickers.size:
            self._funnel(clickers, items, luck, chances, components=components, seconds=seconds, groups=groups, learn=learn, steps=steps)
        leaves = draws[1] < chances[2]
        trust = self.trust
        self.trust = trust + pull(trust, quality, learn) + pull(trust, shown_quality, self._learn_shown)
        tired = click * self._tire_click + self._tire_shown
        if category.ndim == 2:
            hit = np.arange(category.shape[1]) == position[:, None]
            tired = (hit * self._tire_click + self._tire_shown / category.shape[1]).astype(np.float32)
        tire(self.satiation, category, tired, self.p.rest, repeated=category.ndim > 1)
        dwell = seconds * SECOND
        pause, gone = self._all_stay
        leavers = leaves.nonzero()[0]
        if leavers.size:
            pause, gone = self._leave(leavers, stream[leavers], components, dwell, groups)
        if self.switch_us < NEVER:
            before, self.clock = self.clock, self.clock + dwell
            self._switch(((before < self.switch_us) & (self.clock >= self.switch_us)).nonzero()[0])
        return Outcome(components, position, groups, dwell, pause, gone)

    def switch_now(self) -> None:
        """All tastes switch at this moment, those of later customers too, whatever their clocks say.

        For a policy that learns from one decision after the other: their clocks are not in that order.
        """
        self._switch((self.clock < self.switch_us).nonzero()[0])
        self.switch_us = ALWAYS

    def _switch(self, lanes: IntArray) -> None:
        """The switch of the customers in `lanes` [m]."""
        self.taste[lanes] = tastes_moved(self.taste[lanes], self.drift)

    def meet(self, items: IntArray, row: IntArray, sensitivity: FloatArray, trust: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
        """What happens where customers meet items: flat index of (customer, category), the items' table [5, ...], and the
        probabilities [3, ...] of a click, of a cart given a click, and of leaving after this step.

        Shapes: `items` [B] with row, sensitivity, trust [B]; or [B, k] (or [N], everybody meets all) with [B, 1].
        """
        category = self.item_category.take(items) + row
        table = self.item_table.take(items, axis=1)
        interest = self.taste.take(category) - self.satiation.take(category)
        c_interest, c_trust, c_price = self._interest, self._trust, self._price
        if interest.ndim == 2:
            c_interest, c_trust, c_price = c_interest[:, None], c_trust[:, None], c_price[:, None]
            table = table if table.ndim == 3 else table[:, None]
        minus = c_price * (sensitivity * table[3])
        minus += table[:3]
        minus -= c_interest * interest
        minus -= c_trust * trust
        return category, table, probabilities(minus)

    def _choose(
        self, slate: IntArray, luck: FloatArray
    ) -> tuple[IntArray, FloatArray, IntArray, IntArray, FloatArray, FloatArray, FloatArray]:
        """Which of the k items shown is clicked (`customers.choose`).

        Returns item, luck within its interval, position (-1 = none), flat categories [B, k], chances [3, B], quality of the
        item, mean quality of the slate.
        """
        category, table, chances = self.meet(slate, self._row[:, None], self.sensitivity[:, None], self.trust[:, None])
        position, share, luck = choose(chances[0], luck)
        at = (np.arange(self.n), np.maximum(position, 0))
        chosen = np.stack([share, chances[1][at], chances[2][at]])
        quality = table[4]
        return slate[at], luck, position, category, chosen, quality[at], quality.mean(axis=1)

    def _funnel(
        self,
        clickers: IntArray,
        items: IntArray,
        luck: FloatArray,
        chances: FloatArray,
        *,
        components: FloatArray,
        seconds: IntArray,
        groups: list[Group],
        learn: FloatArray,
        steps: IntArray,
    ) -> None:
        """What those who clicked do next. One uniform number decides the whole funnel: its stages are nested."""
        shown = items[clickers]
        groups.append(Group(CLICK, clickers, shown, 3 * SECOND))
        seconds[clickers] += 20
        u, to_cart = luck[clickers], chances[0][clickers] * chances[1][clickers]
        carts = (u < to_cart).nonzero()[0]
        if not carts.size:
            return
        u, to_cart, shown, clickers = u[carts], to_cart[carts], shown[carts], clickers[carts]
        groups.append(Group(CART, clickers, shown, 15 * SECOND))
        seconds[clickers] += 20
        components[clickers, 1] = 1
        paid = u < to_cart * self.p.paid
        later = u < to_cart * self._postponed
        later &= self.pending[clickers] == 0
        waiting = clickers[later]
        self.pending[waiting], self.pending_since[waiting] = shown[later], steps[waiting]
        now = (paid & ~later).nonzero()[0]
        if now.size:
            buyers = clickers[now]
            groups.append(Group(PURCHASE, buyers, shown[now], 45 * SECOND))
            seconds[buyers] += 40
            components[buyers, 2] = 1
            learn[buyers] += self._learn_purchase

    def _leave(
        self, leavers: IntArray, stream: Keys, components: FloatArray, dwell: IntArray, groups: list[Group]
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """The visit of `leavers` ends: postponed carts are paid, and they return after a pause or never."""
        p = self.p
        u = uniforms(stream, self._visit_draws)
        stays_away = -p.return_base - p.return_trust * self.trust[leavers]
        returns, hours, away = comes_back(u, stays_away, p.pause_least_h, p.pause_mean_h)
        rest(self.satiation, leavers, hours, p.rest_hours)
        paying = self.pending[leavers].nonzero()[0]
        if paying.size:
            buyers = leavers[paying]
            items = self.pending[buyers]
            components[buyers, 2] += 1
            after = dwell[buyers] + away[paying] // 2 * SECOND
            groups.append(Group(PURCHASE, buyers, items, after, decision=self.pending_since[buyers]))
            self.pending[buyers] = 0
            self.trust[buyers] += pull(self.trust[buyers], self.item_table[4].take(items), self._learn_purchase)
        return visit_ends(self.n, leavers, returns, away, dwell)


def category_name(index: int) -> str:
    """Name of category 0..19 in item tables."""
    return f"c{index:02d}"


def segment_name(index: int) -> str:
    """Name of segment 0..5 in user tables."""
    return "abcdefghijklmnopqrstuvwxyz"[index]
