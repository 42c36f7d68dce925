"""Layouts that say what was shown: exposure logs (no probabilities) and logged ones (with probabilities)."""

from pathlib import Path

import polars as pl

from qurate.events.fields import (
    STEM,
    Columns,
    Fields,
    Layout,
    LogTables,
    emit,
    explode_emitted,
    first,
    flag,
    ident,
    number,
    one_item_decisions,
    optional,
)
from qurate.events.listed import number_list, text_list
from qurate.events.sources import beside

DAY_US = 86_400_000_000


def recorded(rows: pl.LazyFrame, events: pl.Expr | None = None) -> LogTables:
    """Rows that may carry a shown list: those with one become decisions too, and `events` says which are events.

    A column without a single list or probability is as good as none: the kind says what the log really holds.
    """
    happened = rows if events is None else rows.filter(events)
    names = rows.collect_schema().names()
    if not _any(rows, "_shown"):
        return LogTables(happened)
    shown = rows.filter(pl.col("_shown").is_not_null()).with_columns(pl.col("_shown").alias("shown"))
    if "_candidates" in names:
        shown = shown.with_columns(pl.col("_candidates").alias("candidates"))
    logged = "_propensity_list" in names and _any(rows, "_propensity_list")
    if logged:
        shown = shown.with_columns(pl.col("_propensity_list").alias("propensity"))
    return LogTables(happened, shown, "logged" if logged else "exposure")


def _any(rows: pl.LazyFrame, name: str) -> bool:
    return rows.select(name).drop_nulls().head(1).collect(engine="streaming").height > 0


ITEM_ACTIONS = ("clickout item", "search for item")


def _trivago(c: Columns) -> Fields:
    action, reference = pl.col("action_type").cast(pl.String), pl.col("reference").cast(pl.String)
    about_item = (action.str.starts_with("interaction item") | action.is_in(ITEM_ACTIONS)) & reference.str.contains(r"^\d+$")
    session, clickout = ident(c, "session_id"), action == "clickout item"
    shown = pl.when(clickout).then(text_list(c, "impressions"))
    decision = pl.when(shown.is_not_null()).then(pl.concat_str(session, pl.col("step").cast(pl.String), separator=":"))
    fields = {"user_id": ident(c, "user_id"), "session_id": session, "item_id": pl.when(about_item).then(reference)}
    fields |= {"type": pl.when(clickout).then(pl.lit("click")).otherwise(action), "decision_id": decision, "_shown": shown}
    if "prices" in c:
        fields["candidate.price"] = pl.when(clickout).then(number_list(c, "prices"))
    # The customer could only click what the page listed, so the list is also what there was to choose from.
    return {**fields, "_candidates": shown, **optional(c, {"user.platform": "platform", "user.device": "device"})}


def _kuairand(c: Columns) -> Fields:
    played = number("play_time_ms") / 1000 if "play_time_ms" in c else pl.lit(0.0)
    flags = {
        "is_click": "click",
        "is_like": "like",
        "is_follow": "follow",
        "is_comment": "comment",
        "is_forward": "share",
        "is_hate": "hide",
    }
    events = [(flag(column), name, None) for column, name in flags.items() if column in c]
    fields = {
        "user_id": ident(c, "user_id"),
        "item_id": ident(c, "video_id"),
        "type": pl.lit("shown"),
        "decision_id": pl.format("d{}", "row"),
    }
    fields |= emit((played > 0, "watch", played), *events)
    if "is_rand" in c:
        fields["policy"] = pl.when(flag("is_rand")).then(pl.lit("random")).otherwise(pl.lit("standard"))
    if "duration_ms" in c:
        fields["item.duration"] = pl.when(number("duration_ms") > 0).then(number("duration_ms") / 1000)
    return fields


def _kuairec(c: Columns) -> Fields:
    played = number("play_duration") / 1000
    fields = {
        "user_id": ident(c, "user_id"),
        "item_id": ident(c, "video_id"),
        "type": pl.lit("shown"),
        "decision_id": pl.format("d{}", "row"),
    }
    fields |= emit((played > 0, "watch", played))
    return fields | {"item.duration": number("video_duration") / 1000}


def expand_emitted(rows: pl.LazyFrame) -> LogTables:
    """Rows that each show one item, and hold the events that came of it."""
    return LogTables(explode_emitted(rows), one_item_decisions(rows), "exposure")


KUAILIVE_FILES = {"click": "click", "like": "like", "comment": "comment", "gift": "gift", "negative": "shown"}


def _kuailive(c: Columns) -> Fields:
    stem = pl.col(STEM).cast(pl.String).str.to_lowercase()
    kind = pl.coalesce([pl.when(stem.str.contains(name)).then(pl.lit(event)) for name, event in KUAILIVE_FILES.items()])
    fields = {"user_id": ident(c, "user_id"), "item_id": ident(c, "live_id"), "type": kind.fill_null("click")}
    watch = first(c, "watch_live_time")
    gift = first(c, "gift_price", "gift_value")
    value = pl.lit(None, pl.Float64) if watch is None else number(watch) / 1000
    fields["value"] = value if gift is None else pl.coalesce(value, number(gift))
    shown = fields["type"].is_in(["click", "shown"])
    return fields | {"decision_id": pl.when(shown).then(pl.format("d{}", "row"))}


def _expand_kuailive(rows: pl.LazyFrame) -> LogTables:
    """Clicks and negatives were shown; without the negatives the log is organic."""
    watched = rows.filter(pl.col("type") != "shown")
    if rows.filter(pl.col("type") == "shown").head(1).collect(engine="streaming").height == 0:
        return LogTables(watched.with_columns(pl.lit(None, pl.String).alias("decision_id")))
    return LogTables(watched, one_item_decisions(rows.filter(pl.col("decision_id").is_not_null())), "exposure")


def _rooms(path: Path) -> dict[str, pl.LazyFrame]:
    rooms = beside(path, "room")
    if rooms is None or "live_id" not in rooms.columns:
        return {}
    names = [name for name in ("streamer_id", "live_type", "live_content_category") if name in rooms.columns]
    picked = [ident(rooms.columns, name).alias(name) for name in names]
    for column, name in (("start_timestamp", "available_from"), ("end_timestamp", "available_until")):
        if column in rooms.columns:
            moment = pl.col(column).cast(pl.Int64, strict=False) * 1000
            picked.append(moment.cast(pl.Datetime("us", "UTC")).alias(name))
    return {"items": rooms.frame.select(ident(rooms.columns, "live_id").alias("item_id"), *picked)}


def _mind_spread(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The undated history stands once per customer: kept on the customer's first row of the file."""
    first_row = pl.col("user_id").is_first_distinct()
    return frame.with_columns(pl.when(first_row).then(pl.col("history")).alias("history"))


def _mind(c: Columns) -> Fields:
    parts = pl.col("impressions").str.split(" ")
    shown = parts.list.eval(pl.element().str.replace(r"-[01]$", ""))
    clicked = parts.list.eval(pl.element().filter(pl.element().str.ends_with("-1")).str.replace(r"-1$", ""))
    ids = {"user_id": ident(c, "user_id"), "type": pl.lit("click"), "decision_id": ident(c, "impression_id")}
    return {**ids, "_shown": shown, "_clicked": clicked, "_history": pl.col("history").str.split(" ")}


def _expand_mind(rows: pl.LazyFrame) -> LogTables:
    past = rows.filter(pl.col("_history").list.len() > 0).with_columns(pl.int_ranges(0, pl.col("_history").list.len()).alias("_place"))
    past = past.with_columns(pl.col("_history").list.len().cast(pl.Int64).alias("_count")).explode("_history", "_place")
    before = pl.col("timestamp").cast(pl.Int64) - DAY_US - (pl.col("_count") - pl.col("_place")) * 1_000_000
    old = past.with_columns(
        pl.col("_history").alias("item_id"),
        before.cast(pl.Datetime("us", "UTC")).alias("timestamp"),
        pl.lit(None, pl.String).alias("decision_id"),
    )
    clicks = rows.filter(pl.col("_clicked").list.len() > 0).explode("_clicked").with_columns(pl.col("_clicked").alias("item_id"))
    names = ["user_id", "item_id", "type", "timestamp", "decision_id", "row"]
    return LogTables(pl.concat([old.select(names), clicks.select(names)]), rows.with_columns(pl.col("_shown").alias("shown")), "exposure")


def _news(path: Path) -> dict[str, pl.LazyFrame]:
    news = beside(path, "news")
    if news is None or "news_id" not in news.columns:
        return {}
    return {"items": news.frame.select(ident(news.columns, "news_id").alias("item_id"), "category", "subcategory")}


def _ebnerd(c: Columns) -> Fields:
    fields = {"user_id": ident(c, "user_id"), "type": pl.lit("click"), "decision_id": ident(c, "impression_id")}
    fields |= {"_shown": text_list(c, "article_ids_inview"), "_clicked": text_list(c, "article_ids_clicked")}
    fields["_read"] = number("next_read_time") if "next_read_time" in c else pl.lit(None, pl.Float64)
    fields |= {f"user.{name}": ident(c, name) for name in ("gender", "postcode") if name in c}
    fields |= {f"user.{name}": number(name) for name in ("age", "is_subscriber") if name in c}
    return fields | optional(c, {"session_id": "session_id"})


def _expand_ebnerd(rows: pl.LazyFrame) -> LogTables:
    clicked = rows.filter(pl.col("_clicked").list.len() > 0)
    # The read time that follows an impression belongs to its click, where there was just one.
    read = pl.when(pl.col("_clicked").list.len() == 1).then(pl.col("_read"))
    events = emit((pl.lit(True), "click", None), (read.is_not_null(), "read", read))
    clicks = clicked.with_columns(**events).explode("_clicked").with_columns(pl.col("_clicked").alias("item_id"))
    return LogTables(explode_emitted(clicks), rows.with_columns(pl.col("_shown").alias("shown")), "exposure")


EBNERD_LISTS = {"impression_time_fixed": "impression_time", "article_id_fixed": "article_id", "read_time_fixed": "read_time"}


def _history_spread(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select("row", "user_id", *EBNERD_LISTS).rename(EBNERD_LISTS).explode(*EBNERD_LISTS.values())


def _history(c: Columns) -> Fields:
    return {"user_id": ident(c, "user_id"), "item_id": ident(c, "article_id"), "type": pl.lit("read"), "value": number("read_time")}


def _open_bandit(c: Columns) -> Fields:
    item, policy = ident(c, "item_id"), ident(c, "policy") if "policy" in c else pl.lit(None, pl.String)
    if "campaign" in c:
        campaign = ident(c, "campaign")
        item = pl.concat_str(campaign, item, separator=":")  # men and women number their items from 0 each
        fields: Fields = {"_campaign": campaign}
    else:
        fields = {}
    fields |= {"user_id": pl.format("u{}", "row"), "item_id": item, "type": pl.lit("click"), "policy": policy}
    fields |= {"decision_id": pl.format("d{}", "row"), "_click": flag("click")}
    fields["_propensity"] = number("propensity" if "propensity" in c else "propensity_score")
    features = {f"user.feature_{i}": f"user_feature_{i}" for i in range(4)}
    return fields | optional(c, features) | {"user.position": ident(c, "position")}


def _expand_open_bandit(rows: pl.LazyFrame) -> LogTables:
    """Each campaign chooses among its own items, all of which occur in its log."""
    by = ["_campaign"] if "_campaign" in rows.collect_schema().names() else []
    pairs = rows.select(*by, "item_id").unique().collect(engine="streaming").sort("item_id")
    choices = pl.lit(None, pl.List(pl.String))
    if not by:
        choices = pl.lit(pl.Series([pairs["item_id"].to_list()], dtype=pl.List(pl.String))).first()
    for campaign in pairs["_campaign"].unique().sort().to_list() if by else []:
        listed = pl.lit(pl.Series([pairs.filter(pl.col("_campaign") == campaign)["item_id"].to_list()], dtype=pl.List(pl.String))).first()
        choices = pl.when(pl.col("_campaign") == campaign).then(listed).otherwise(choices)
    decisions = one_item_decisions(rows).with_columns(choices.alias("candidates"))
    return LogTables(rows.filter("_click"), decisions, "logged")


def _ad_items(path: Path) -> dict[str, pl.LazyFrame]:
    context = beside(path, "item_context")
    if context is None or not {"item_id", "campaign"} <= set(context.columns):
        return {}
    campaign = ident(context.columns, "campaign")
    item = pl.concat_str(campaign, ident(context.columns, "item_id"), separator=":")
    features = [name for name in context.columns if name.startswith("item_feature")]
    return {"items": context.frame.select(campaign.alias("_campaign"), item.alias("item_id"), *features)}


def _ipinyou(c: Columns) -> Fields:
    person = ident(c, "ipinyouid") if "ipinyouid" in c else pl.format("u{}", "row")
    fields = {"user_id": person, "item_id": ident(c, "creative"), "type": pl.lit("click"), "decision_id": pl.format("d{}", "row")}
    fields["_click"] = flag("click")
    names = ("weekday", "hour", "useragent", "region", "slotvisibility", "slotprice", "slotid")
    return fields | optional(c, {f"user.{name}": name for name in names}) | optional(c, {"split": "split"})


def _expand_ipinyou(rows: pl.LazyFrame) -> LogTables:
    return LogTables(rows.filter("_click"), one_item_decisions(rows), "exposure")


SHOWN_LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "trivago",
        ("user_id", "session_id", "timestamp", "step", "action_type", "reference", "impressions"),
        _trivago,
        ("timestamp",),
        recorded,
        required=("user_id", "type"),
    ),
    Layout(
        "kuairand",
        ("user_id", "video_id", "time_ms", "is_click"),
        _kuairand,
        ("time_ms",),
        expand_emitted,
        numbers=("play_time_ms", "duration_ms"),
    ),
    Layout(
        "kuairec",
        ("user_id", "video_id", "play_duration", "video_duration", "timestamp|time"),
        _kuairec,
        ("timestamp", "time"),
        expand_emitted,
        numbers=("play_duration", "video_duration"),
    ),
    Layout(
        "kuailive",
        ("user_id", "live_id", "streamer_id", "timestamp"),
        _kuailive,
        ("timestamp",),
        _expand_kuailive,
        numbers=("watch_live_time",),
        companions=_rooms,
    ),
    Layout(
        "mind",
        ("impression_id", "user_id", "time", "history", "impressions"),
        _mind,
        ("time",),
        _expand_mind,
        spread=_mind_spread,
        required=("user_id", "decision_id"),
        companions=_news,
        note="MIND's history has no times: its clicks stand one second apart, a day before the customer's first row",
    ),
    Layout(
        "ebnerd",
        ("impression_id", "user_id", "impression_time", "article_ids_inview", "article_ids_clicked"),
        _ebnerd,
        ("impression_time",),
        _expand_ebnerd,
        numbers=("next_read_time",),
        required=("user_id", "decision_id"),
    ),
    Layout(
        "ebnerd",
        ("user_id", *EBNERD_LISTS),
        _history,
        ("impression_time",),
        spread=_history_spread,
        dedupe=False,
    ),
    Layout(
        "open_bandit",
        ("timestamp", "item_id", "position", "click", "propensity|propensity_score"),
        _open_bandit,
        ("timestamp",),
        _expand_open_bandit,
        numbers=("propensity", "propensity_score", "click"),
        companions=_ad_items,
        has_users=False,
    ),
    Layout(
        "ipinyou",
        ("click", "weekday", "hour", "creative", "advertiser", "slotid"),
        _ipinyou,
        (),
        _expand_ipinyou,
        has_users=False,
        dedupe=False,
    ),
)
