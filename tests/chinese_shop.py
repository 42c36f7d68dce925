"""A shop of 800 customers and 500 items with Chinese titles and prices: the files that its owner would export."""

import csv
from pathlib import Path

import numpy as np

CATEGORIES = {"茶": "龙井 普洱 铁观音 白茶 茉莉花茶", "杯": "玻璃杯 保温杯 马克杯 茶杯 咖啡杯", "书": "小说 诗集 菜谱 漫画 词典",
              "衣": "衬衫 毛衣 外套 长裤 围巾", "玩具": "积木 拼图 风筝 布偶 遥控车"}  # fmt: skip
STYLES = ("经典", "限量", "手工", "儿童", "旅行", "礼盒装", "家庭", "轻便", "加大", "新款")
FUNNEL = {"view": 0.66, "cart": 0.22, "purchase": 0.12}
T0 = 1_717_200_000
"""2024-06-01."""


def write_shop(folder: Path, events: int = 20_000, users: int = 800, items: int = 500, seed: int = 7) -> dict[str, Path]:
    """Writes events.csv, items.csv and users.csv; their paths by name.

    A customer looks at one category most of the time; what goes into the cart or is bought had been looked at last.
    """
    rng = np.random.default_rng(seed)
    names = [(name, product) for name, words in CATEGORIES.items() for product in words.split()]
    of = rng.integers(len(names), size=items)
    price = np.round(rng.lognormal(3.5, 0.8, items), 2)
    files = {name: folder / f"{name}.csv" for name in ("events", "items", "users")}
    with files["items"].open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title", "category", "price"])
        for i in range(items):
            category, product = names[of[i]]
            # an owner's table is never whole: every fortieth price is missing
            rows.writerow([f"sku{i:04d}", f"{STYLES[i % 10]}{product} {i:03d}号", category, "" if i % 40 == 39 else f"{price[i]:.2f}"])
    taste = rng.integers(len(CATEGORIES), size=users)
    with files["users"].open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "city", "age"])
        rows.writerows([f"u{u:03d}", ("北京", "上海", "成都")[u % 3], int(rng.integers(18, 70))] for u in range(users))
    category_of = of // 5
    own = [np.flatnonzero(category_of == c) for c in range(len(CATEGORIES))]
    weight = [1 / (1 + np.arange(len(one))) ** 0.6 for one in own]
    seconds = np.sort(rng.integers(60 * 86_400, size=events))
    who = rng.integers(users, size=events)
    kinds = rng.choice(list(FUNNEL), size=events, p=list(FUNNEL.values()))
    last = np.full(users, -1)
    with files["events"].open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "event_type", "timestamp"])
        for user, kind, second in zip(who, kinds, seconds, strict=True):
            c = taste[user] if rng.random() < 0.7 else rng.integers(len(CATEGORIES))
            item = last[user] if kind != "view" and last[user] >= 0 else rng.choice(own[c], p=weight[c] / weight[c].sum())
            last[user] = item
            rows.writerow([f"u{user:03d}", f"sku{item:04d}", kind, T0 + int(second)])
    return files
