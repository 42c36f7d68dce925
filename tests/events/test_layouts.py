"""Every layout of the contract, from a few rows in its published form to the two tables."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from qurate.errors import UserError
from qurate.events.layouts import LAYOUTS, NAMES, recognise
from qurate.events.readers import read_events
from qurate.events.schema import EventLog

T0 = 1_700_000_000
CONTRACT = {
    *("qurate", "trivago", "globo", "kuairand", "kuairec", "kuailive", "retailrocket", "retailrocket_sessions", "rees46", "taobao"),
    *("otto", "mind", "ebnerd", "movielens", "lastfm", "recbole", "personalize", "open_bandit", "ipinyou"),
}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def triples(log: EventLog) -> list[tuple[Any, ...]]:
    return log.events.select("user_id", "item_id", "type").collect().rows()


def shown(log: EventLog) -> list[list[str]]:
    assert log.decisions is not None
    return log.decisions.collect()["shown"].to_list()


def test_all_layouts_of_the_contract_are_there() -> None:
    assert set(NAMES) == CONTRACT


def test_each_layout_recognises_its_own_columns_first() -> None:
    for layout in LAYOUTS:
        columns = {need.split("|")[0]: pl.String() for need in layout.needs}
        found = recognise(columns)
        assert found is layout


def test_trivago(tmp_path: Path) -> None:
    rows = [
        ("u", "s", T0, 1, "search for destination", "Berlin, Germany", ""),
        ("u", "s", T0 + 1, 2, "interaction item image", "11", ""),
        ("u", "s", T0 + 2, 3, "clickout item", "12", "10|11|12"),
        ("u", "s", T0 + 3, 4, "interaction item deals", "unknown", ""),
    ]
    head = "user_id,session_id,timestamp,step,action_type,reference,impressions\n"
    text = head + "".join(",".join(f'"{v}"' if v else "" for v in row) + "\n" for row in rows)
    log = read_events(write(tmp_path / "train.csv", text))
    assert (log.layout, log.kind, log.time_unit) == ("trivago", "exposure", "s")
    assert triples(log) == [
        ("u", None, "search for destination"),
        ("u", "11", "interaction item image"),
        ("u", "12", "click"),
        ("u", None, "interaction item deals"),
    ]
    assert shown(log) == [["10", "11", "12"]]
    assert log.events.collect()["decision_id"].to_list() == [None, None, "s:3", None]
    assert log.decisions is not None
    assert log.decisions.collect()["candidates"].to_list() == [["10", "11", "12"]]


def test_kuairand(tmp_path: Path) -> None:
    head = "user_id,video_id,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,play_time_ms,duration_ms,is_rand\n"
    text = head + f"1,2,{T0 * 1000},1,1,0,0,0,0,2500,9000,0\n1,3,{T0 * 1000 + 1},0,0,0,0,0,1,0,0,1\n1,4,{T0 * 1000 + 2},0,0,0,0,0,0,0,0,0\n"
    log = read_events(write(tmp_path / "log.csv", text))
    assert (log.layout, log.kind, log.time_unit) == ("kuairand", "exposure", "ms")
    assert triples(log) == [("1", "2", "watch"), ("1", "2", "click"), ("1", "2", "like"), ("1", "3", "hide")]
    assert log.events.collect()["value"].to_list() == [2.5, None, None, None]
    assert log.events.collect()["decision_id"].to_list() == ["d2", "d2", "d2", "d3"]
    assert shown(log) == [["2"], ["3"], ["4"]]
    assert log.decisions is not None
    assert log.decisions.collect()["policy"].to_list() == ["standard", "random", "standard"]
    assert log.items is not None
    assert sorted(log.items.collect().rows()) == [("2", 9.0), ("3", None), ("4", None)]


def test_kuairec(tmp_path: Path) -> None:
    head = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
    text = head + f"7,8,4000,8000,2020-07-05 00:08:23.438,20200705,{T0}.5,0.5\n"
    log = read_events(write(tmp_path / "big_matrix.csv", text))
    assert (log.layout, log.kind) == ("kuairec", "exposure")
    assert log.events.select("type", "value").collect().rows() == [("watch", 4.0)]
    assert log.events.collect()["timestamp"][0] == datetime.fromtimestamp(T0 + 0.5, UTC)
    only_text = "user_id,video_id,play_duration,video_duration,time\n7,8,4000,8000,2020-07-05 00:08:23.438\n"
    assert read_events(write(tmp_path / "small.csv", only_text)).time_unit == "text"


def test_kuailive(tmp_path: Path) -> None:
    ms = T0 * 1000
    write(tmp_path / "click.csv", f"user_id,live_id,streamer_id,timestamp,watch_live_time\nu,l1,s1,{ms},30000\n")
    write(tmp_path / "like.csv", f"user_id,live_id,streamer_id,timestamp\nu,l1,s1,{ms + 5}\n")
    write(tmp_path / "gift.csv", f"user_id,live_id,streamer_id,timestamp,gift_price\nu,l1,s1,{ms + 7},20\n")
    rooms = f"live_id,streamer_id,live_type,start_timestamp,end_timestamp,live_content_category\nl1,s1,1,{ms - 9},{ms + 99},music\n"
    write(tmp_path / "room.csv", rooms)
    organic = read_events(tmp_path)
    assert (organic.layout, organic.kind) == ("kuailive", "organic")
    assert sorted(organic.events.select("type", "value").collect().rows()) == [("click", 30.0), ("gift", 20.0), ("like", None)]
    assert organic.items is not None
    rooms_table = organic.items.collect()
    assert rooms_table["available_from"][0] == datetime.fromtimestamp((ms - 9) / 1000, UTC)
    assert rooms_table["available_until"][0] == datetime.fromtimestamp((ms + 99) / 1000, UTC)
    write(tmp_path / "negative.csv", f"user_id,live_id,streamer_id,timestamp\nu,l2,s2,{ms + 9}\n")
    log = read_events(tmp_path)
    assert log.kind == "exposure"
    assert sorted(shown(log)) == [["l1"], ["l2"]]
    assert sorted(log.events.collect()["type"]) == ["click", "gift", "like"]


def test_retailrocket(tmp_path: Path) -> None:
    head = "timestamp,visitorid,event,itemid,transactionid\n"
    text = head + f"{T0 * 1000},1,view,5,\n{T0 * 1000 + 9},1,addtocart,5,\n{T0 * 1000 + 99},1,transaction,5,77\n"
    log = read_events(write(tmp_path / "events.csv", text))
    assert (log.layout, log.kind, log.time_unit) == ("retailrocket", "organic", "ms")
    assert [t for *_, t in triples(log)] == ["view", "cart", "purchase"]


def test_retailrocket_sessions(tmp_path: Path) -> None:
    pl.DataFrame({"session": [0, 1], "split": ["train", "test"], "items": [[1, 2], [3, 4, 5]]}).write_parquet(tmp_path / "x.parquet")
    log = read_events(tmp_path / "x.parquet")
    assert (log.layout, log.time_unit, log.has_users) == ("retailrocket_sessions", "order", False)
    events = log.events.collect()
    assert events["split"].to_list() == ["train", "train", "history", "history", "test"]
    assert events["item_id"].to_list() == ["1", "2", "3", "4", "5"]
    assert events["timestamp"].diff().dt.total_seconds().to_list()[1:] == [1, 1, 1, 1]
    assert any("no time" in note for note in log.notes)


def test_rees46(tmp_path: Path) -> None:
    head = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    text = head + "2019-10-01 00:00:00 UTC,view,44,9,shoes,nike,35.7,5,a-b\n2019-10-01 00:00:09 UTC,purchase,44,9,shoes,,35.7,5,a-b\n"
    log = read_events(write(tmp_path / "2019-Oct.csv", text))
    assert (log.layout, log.time_unit) == ("rees46", "text")
    assert log.events.select("type", "value", "session_id").collect().rows() == [("view", None, "a-b"), ("purchase", 35.7, "a-b")]
    assert log.events.collect()["timestamp"][0] == datetime(2019, 10, 1, tzinfo=UTC)
    assert log.items is not None
    assert log.items.collect().to_dicts() == [
        {"item_id": "44", "price": 35.7, "category_code": "shoes", "brand": "nike", "category_id": "9"}
    ]


def test_taobao_without_a_header(tmp_path: Path) -> None:
    text = f"1,2268318,2520377,pv,{T0}\n1,2333346,2520771,buy,{T0 + 5}\n1,2333346,2520771,fav,{T0 + 6}\n1,2333346,2520771,cart,{T0 + 7}\n"
    log = read_events(write(tmp_path / "UserBehavior.csv", text))
    assert log.layout == "taobao"
    assert [t for *_, t in triples(log)] == ["click", "purchase", "like", "cart"]
    assert log.events.collect()["row"].to_list() == [1, 2, 3, 4]


def test_otto_nested_and_flat(tmp_path: Path) -> None:
    ms = T0 * 1000
    events = [{"aid": 1, "ts": ms, "type": "clicks"}, {"aid": 2, "ts": ms + 5, "type": "carts"}, {"aid": 2, "ts": ms + 9, "type": "orders"}]
    nested = read_events(write(tmp_path / "train.jsonl", json.dumps({"session": 3, "events": events}) + "\n"))
    assert (nested.layout, nested.time_unit, nested.has_users) == ("otto", "ms", False)
    assert triples(nested) == [("3", "1", "click"), ("3", "2", "cart"), ("3", "2", "purchase")]
    pl.DataFrame([{"session": 3, **event} for event in events]).write_parquet(tmp_path / "flat.parquet")
    assert triples(read_events(tmp_path / "flat.parquet")) == triples(nested)


def test_mind(tmp_path: Path) -> None:
    text = "1\tU1\t11/15/2019 9:22:32 AM\tN8 N9\tN1-0 N2-1\n2\tU1\t11/15/2019 9:30:00 AM\tN8 N9\tN3-1 N4-0 N5-1\n"
    write(tmp_path / "news.tsv", 'N1\tsport\tgolf\tA "title\t\thttps://x\t[]\t[]\nN2\tnews\tuk\tB\t\thttps://x\t[]\t[]\n')
    log = read_events(write(tmp_path / "behaviors.tsv", text))
    assert (log.layout, log.kind) == ("mind", "exposure")
    assert shown(log) == [["N1", "N2"], ["N3", "N4", "N5"]]
    events = log.events.sort("timestamp", maintain_order=True).collect()
    assert events["item_id"].to_list() == ["N8", "N9", "N2", "N3", "N5"]
    assert events["decision_id"].to_list() == [None, None, "1", "2", "2"]
    assert events["timestamp"][2] == datetime(2019, 11, 15, 9, 22, 32, tzinfo=UTC)
    assert log.items is not None
    assert log.items.collect().rows() == [("N1", "sport", "golf"), ("N2", "news", "uk")]


def test_ebnerd(tmp_path: Path) -> None:
    moment = datetime(2023, 2, 27, 3, 23, 27)
    row = {"impression_id": 9, "impression_time": moment, "article_ids_inview": [1, 2, 3], "article_ids_clicked": [2], "user_id": 5}
    pl.DataFrame([{**row, "session_id": 70, "next_read_time": 8.0, "age": 40, "gender": 1}]).write_parquet(tmp_path / "behaviors.parquet")
    past = {"user_id": [5], "impression_time_fixed": [[moment]], "article_id_fixed": [[7]], "read_time_fixed": [[13.0]]}
    pl.DataFrame(past).write_parquet(tmp_path / "history.parquet")
    log = read_events(tmp_path)
    assert (log.layout, log.kind) == ("ebnerd", "exposure")
    assert shown(log) == [["1", "2", "3"]]
    got = log.events.select("item_id", "type", "value", "decision_id").collect().rows()
    assert got == [("2", "click", None, "9"), ("2", "read", 8.0, "9"), ("7", "read", 13.0, None)]
    assert log.users is not None
    assert log.users.collect().to_dicts() == [{"user_id": "5", "gender": "1", "age": 40.0}]


def test_movielens(tmp_path: Path) -> None:
    write(tmp_path / "movies.csv", "movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n2,X,(no genres listed)\n")
    log = read_events(write(tmp_path / "ratings.csv", f"userId,movieId,rating,timestamp\n1,1,4.5,{T0}\n"))
    assert log.layout == "movielens"
    assert log.events.select("type", "value").collect().rows() == [("rating", 4.5)]
    assert log.items is not None
    assert log.items.collect().to_dicts() == [{"item_id": "1", "genres": ["Animation", "Comedy"]}, {"item_id": "2", "genres": []}]


def test_lastfm(tmp_path: Path) -> None:
    counts = read_events(write(tmp_path / "user_artists.tsv", "userID\tartistID\tweight\n2\t51\t13883\n"))
    assert (counts.layout, counts.time_unit) == ("lastfm", "order")
    assert counts.events.select("type", "value").collect().rows() == [("listen", 13883.0)]
    tags = read_events(write(tmp_path / "user_taggedartists.tsv", "userID\tartistID\ttagID\tday\tmonth\tyear\n2\t52\t13\t1\t4\t2009\n"))
    assert tags.events.select("type", "timestamp").collect().rows() == [("tag", datetime(2009, 4, 1, tzinfo=UTC))]
    roles = {one["column"]: one["role"] for one in tags.files[0]["columns"]}
    assert None not in [roles[name] for name in ("day", "month", "year")], "the time is made of them"
    stamped = write(tmp_path / "user_taggedartists-timestamps.tsv", "userID\tartistID\ttagID\ttimestamp\n2\t52\t13\t1238536800000\n")
    assert read_events(stamped).layout == "lastfm"
    undated = write(tmp_path / "tags.tsv", "userID\tartistID\ttagID\n2\t52\t13\n")
    with pytest.raises(UserError, match="the columns of a known layout"):
        read_events(undated)


def test_recbole(tmp_path: Path) -> None:
    write(tmp_path / "ml.item", "item_id:token\tprice:float\tgenre:token_seq\n9\t1.5\tA B\n")
    write(tmp_path / "ml.user", "user_id:token\tage:float\n3\t40\n")
    text = f"user_id:token\titem_id:token\trating:float\ttimestamp:float\n3\t9\t5\t{T0}\n"
    log = read_events(write(tmp_path / "ml.inter", text))
    assert log.layout == "recbole"
    assert log.events.select("user_id", "item_id", "type", "value").collect().rows() == [("3", "9", "rating", 5.0)]
    assert log.items is not None and log.users is not None
    assert log.items.collect().to_dicts() == [{"item_id": "9", "price": 1.5, "genre": ["A", "B"]}]
    assert log.users.collect().to_dicts() == [{"user_id": "3", "age": 40.0}]


def test_personalize(tmp_path: Path) -> None:
    head = "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,EVENT_VALUE"
    plain = read_events(write(tmp_path / "a.csv", f"{head}\nu,i,{T0},Click,1.0\n"))
    assert (plain.layout, plain.kind) == ("personalize", "organic")
    assert plain.events.select("type", "value").collect().rows() == [("click", 1.0)]
    typed = read_events(write(tmp_path / "c.csv", f"USER_ID,ITEM_ID,TYPE,TIMESTAMP\nu,i,Purchase,{T0}\nu,i,,{T0 + 1}\n"))
    assert typed.events.collect()["type"].to_list() == ["purchase", "click"]
    exposed = read_events(write(tmp_path / "b.csv", f"{head},IMPRESSION\nu,i,{T0},Click,,i|j\n"))
    assert exposed.kind == "exposure"
    assert shown(exposed) == [["i", "j"]]


def test_open_bandit(tmp_path: Path) -> None:
    head = ",timestamp,item_id,position,click,propensity_score,user_feature_0\n"
    text = head + "0,2019-11-24 00:00:01.5+00:00,3,1,1,0.25,aa\n1,2019-11-24 00:00:02+00:00,4,2,0,0.5,bb\n"
    log = read_events(write(tmp_path / "men.csv", text))
    assert (log.layout, log.kind, log.has_users) == ("open_bandit", "logged", False)
    assert log.decisions is not None
    assert log.decisions.select("shown", "propensity", "candidates").collect().rows() == [
        (["3"], [0.25], ["3", "4"]),
        (["4"], [0.5], ["3", "4"]),
    ]
    assert log.events.select("item_id", "type", "decision_id").collect().rows() == [("3", "click", "d2")]
    bad = read_events(write(tmp_path / "bad.csv", text.replace("0.5,bb", "0,bb")), max_bad=1.0)
    assert bad.rejects["reason"].to_list() == ["propensity outside (0, 1]"]


def test_ipinyou(tmp_path: Path) -> None:
    text = "split,click,weekday,hour,creative,advertiser,slotid\ntrain,0,2,18,c1,a,s\ntrain,1,2,18,c2,a,s\ntrain,1,2,18,c2,a,s\n"
    log = read_events(write(tmp_path / "imp.csv", text))
    assert (log.layout, log.kind, log.time_unit) == ("ipinyou", "exposure", "order")
    assert shown(log) == [["c1"], ["c2"], ["c2"]]
    assert [item for _, item, _ in triples(log)] == ["c2", "c2"]


def test_globo_as_published(tmp_path: Path) -> None:
    head = "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment\n"
    folder = tmp_path / "clicks"
    write(folder / "clicks_hour_000.csv", head + f"0,9,{T0 * 1000},2,157,{T0 * 1000},4\n")
    write(folder / "clicks_hour_001.csv", head + f"0,9,{T0 * 1000},2,158,{T0 * 1000 + 9},4\n")
    log = read_events(folder)
    assert (log.layout, log.time_unit) == ("globo", "ms")
    assert triples(log) == [("0", "157", "click"), ("0", "158", "click")]


REAL = [
    # name, layout, kind, unit, events, users, items, decisions
    ("trivago_100k/sessions.parquet", "trivago", "exposure", "s", 100_003, 6_593, None, 13_597),
    ("globo_news/clicks.parquet", "globo", "organic", "ms", 2_988_181, 322_897, 46_033, None),
    ("kuairand/like_hate_27k_core15.parquet", "kuairand", "exposure", "ms", 111_743, 664, 9_359, 41_828 - 124),
    ("retailrocket_sessions/retailrocket.parquet", "retailrocket_sessions", "organic", "order", 814_257, 141_300, 36_968, None),
    ("movielens_small/ratings.parquet", "movielens", "organic", "s", 100_836, 610, 9_724, None),
    ("lastfm_hetrec2011/user_artists.parquet", "lastfm", "organic", "order", 92_834, 1_892, 17_632, None),
    ("open_bandit_small/log.parquet", "open_bandit", "logged", "datetime", 207, 207, 58, 40_000),
    ("ipinyou_demo/impressions.parquet", "ipinyou", "exposure", "order", 305, 305, 2, 47_923),
    ("ebnerd_mini", "ebnerd", "exposure", "datetime", 10_367, 44, 2_730, 1_046),
    ("otto_mini/events.parquet", "otto", "organic", "ms", 862, 20, 510, None),
    ("taobao_userbehavior_mini/events.parquet", "taobao", "organic", "s", 4_321, 43, 3_276, None),
]


@pytest.mark.parametrize("case", REAL, ids=[case[1] for case in REAL])
def test_real_logs_have_the_published_counts(real_log: Any, case: tuple[Any, ...]) -> None:
    name, layout, kind, unit, events, users, items, decisions = case
    log = read_events(real_log(name))
    assert (log.layout, log.kind, log.time_unit, log.bad_rows) == (layout, kind, unit, 0)
    counts = (
        log.events.select(pl.len(), pl.col("user_id").n_unique(), pl.col("item_id").drop_nulls().n_unique().alias("i")).collect().row(0)
    )
    assert counts[:2] == (events, users)
    assert items is None or counts[2] == items
    assert (None if log.decisions is None else log.decisions.select(pl.len()).collect().item()) == decisions


def test_trivago_shows_what_the_readme_says(real_log: Any) -> None:
    log = read_events(real_log("trivago_100k/sessions.parquet"))
    assert log.decisions is not None
    decisions, events = log.decisions.collect(), log.events.collect()
    listed = set(decisions["shown"].explode())
    assert len(listed) == 106_866
    assert len(listed | set(events["item_id"].drop_nulls())) == 107_603
    assert decisions["decision_id"].n_unique() == decisions.height
    clicks = events.filter(pl.col("type") == "click").join(
        decisions.select("decision_id", "shown"), on="decision_id", maintain_order="left"
    )
    place = clicks.select(pl.col("shown").list.eval(pl.element()).alias("shown"), "item_id")
    ranks = [row.index(item) + 1 for row, item in place.rows() if item in row]
    assert len(ranks) == 13_596
    assert sum(1 / rank for rank in ranks) / clicks.height == pytest.approx(0.450, abs=0.001)


def test_open_bandit_propensities_are_the_published_ones(real_log: Any) -> None:
    log = read_events(real_log("open_bandit_small/log.parquet"))
    assert log.decisions is not None
    decisions = log.decisions.collect()
    uniform = decisions.filter(pl.col("policy") == "random")
    sizes = uniform["candidates"].list.len()
    assert set(sizes) == {34, 46}
    assert (uniform["propensity"].list.first() - 1 / sizes).abs().max() == pytest.approx(0, abs=1e-12)
    assert decisions["propensity"].list.first().min() == pytest.approx(1e-6)


def test_retailrocket_sessions_hold_out_the_last_item(real_log: Any) -> None:
    log = read_events(real_log("retailrocket_sessions/retailrocket.parquet"))
    by = log.events.group_by("split").agg(pl.len(), pl.col("session_id").n_unique().alias("sessions")).collect()
    found = {split: (rows, sessions) for split, rows, sessions in by.rows()}
    assert found["test"] == (15_132, 15_132)
    assert found["train"][1] == 126_168
