"""Bytes that are not UTF-8: the encoding that they look like is named, for the writing of each language."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from event_files import T0, refused, write

from qurate.events.encodings import guessed_encoding
from qurate.events.readers import read_events

N = 40
JAPANESE = "おすすめの商品と新しいアイテム 人気のシャツ 送料無料のセール"
KOREAN = "새로운 상품 추천 인기 셔츠 무료 배송 할인 행사 가방"
RUSSIAN = "Новая рубашка из хлопка бесплатная доставка и скидка на товары"
TITLES = {
    "shift_jis": JAPANESE,
    "cp932": f"{JAPANESE} ①㈱",
    "euc-jp": JAPANESE,
    "euc-kr": KOREAN,
    "cp949": f"{KOREAN} 똠방각하",
    "cp1251": RUSSIAN,
    "koi8-r": RUSSIAN,
    "cp866": RUSSIAN,
    "cp1253": "Νέο πουκάμισο από βαμβάκι με δωρεάν αποστολή και έκπτωση",
    "cp1255": "חולצה חדשה עם משלוח חינם ומבצע על כל המוצרים",
    "cp1256": "القميص الجديد مع الشحن المجاني وعرض على المنتجات",
    "cp874": "เสื้อเชิ้ตใหม่ จัดส่งฟรี และส่วนลดสินค้ายอดนิยม",
    "cp1250": "Nowa żółta koszula bawełniana i darmowa przesyłka na książki",
    "iso8859-2": "Nowa żółta koszula bawełniana i darmowa przesyłka na książki",
    "cp1252": "Chemise d’été à 9 € l’unité déjà soldée",
    "latin-1": "¿Qué camisa de algodón? ¡Envío gratis en España!",
    "gbk": "新款纯棉衬衫 全场免运费 热门商品推荐 手机数码 家用电器",
    "big5": "新款純棉襯衫 全場免運費 熱門商品推薦 手機數位 家用電器",
}


def titled(encoding: str, word: str) -> bytes:
    words = word.split()
    rows = [f"u{i % 3},{words[i % len(words)]} {words[(i + 1) % len(words)]},{T0 + 60 * i}" for i in range(N)]
    return ("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n").encode(encoding)


@pytest.mark.parametrize("encoding", TITLES)
def test_the_encoding_of_each_writing_is_named_and_reads_it(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", titled(encoding, TITLES[encoding]))
    named = {"shift_jis": "cp932", "euc-kr": "cp949"}.get(encoding, encoding)  # which contain them
    assert f"say --encoding {named}" in refused(path).typed
    read = read_events(path, encoding=encoding).events.collect()["item_id"]
    plain = read_events(write(tmp_path / "plain.csv", titled("utf-8", TITLES[encoding]))).events.collect()["item_id"]
    assert read.to_list() == plain.to_list()


def test_long_chinese_text_is_not_taken_for_another_writing(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.zh-CN.md").read_text()
    assert guessed_encoding(write(tmp_path / "all.txt", text.encode("gbk", "ignore"))) == "gbk"
    lines = [line for line in text.splitlines() if sum(sign > "\x7f" for sign in line) > 20]
    named = [guessed_encoding(write(tmp_path / "line.txt", f"{line}\n".encode("gbk", "ignore"))) for line in lines]
    assert len(lines) > 20 and set(named) <= {"gbk", "gb18030"}


@pytest.mark.parametrize("word", ["Größe", "naïve", "smörgåsbord"])
def test_two_letters_side_by_side_in_latin_words_are_no_chinese(word: str, tmp_path: Path) -> None:
    assert guessed_encoding(write(tmp_path / "log.txt", f"{word}\n".encode("latin-1") * 9)) == "latin-1"


def test_chinese_beside_long_latin_words(tmp_path: Path) -> None:
    assert guessed_encoding(write(tmp_path / "log.txt", "SamsungGalaxy手机\n".encode("gbk") * 9)) == "gbk"


def test_utf_32_is_no_utf_16(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", titled("utf-32", TITLES["gbk"]))
    assert refused(path).hint == "say --encoding utf-32"
    assert read_events(path, encoding="utf-32").events.collect().height == N


@pytest.mark.parametrize("packed", [False, True])
def test_ids_of_bytes_are_text_or_hexadecimal_numbers(packed: bool, tmp_path: Path) -> None:
    users = [bytes([200 + i % 3]) * 16 for i in range(N)]
    rows = pl.DataFrame({"user_id": users, "item_id": [f"p{i % 7}".encode() for i in range(N)], "timestamp": [T0 + i for i in range(N)]})
    if packed:
        rows.write_parquet(tmp_path / "log.parquet")
    log = read_events(tmp_path / "log.parquet" if packed else rows)
    read = log.events.collect()
    assert read["user_id"].to_list() == [user.hex() for user in users] and set(read["item_id"]) == {f"p{i}" for i in range(7)}
    assert [note for note in log.notes if "hexadecimal" in note and "user_id" in note] and "item_id holds" not in " ".join(log.notes)


def test_a_packed_file_is_looked_at_as_well(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv.gz", gzip.compress(titled("shift_jis", JAPANESE)))
    assert "say --encoding cp932" in refused(path).typed
