"""Words of SQL text, and tables by their place among them, without a parser."""

import pytest

from collector.lineage.sql.tokens import Sort, scan, without_comments, words
from tests.unit.lineage.sql_catalog import PlainCatalog


def texts(text: str) -> list[str]:
    return [word.text for word in words(text)]


def scanned(text: str) -> list[str]:
    return [source.name for source in scan(list(words(text)), PlainCatalog())[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select a,b", ["select", "a", ",", "b"]),
        ("`a b`.c", ["`a b`", ".", "c"]),
        ("`a``b`", ["`a``b`"]),
        (r"'it\'s' r'\d'", [r"'it\'s'", r"r'\d'"]),
        ('"a -- b" -- c', ['"a -- b"']),
        ("a/* b /* c */ d */e", ["a", "e"]),
        ("a --- b\nc", ["a", "c"]),
        ("a -- b \\\nc\nd", ["a", "d"]),
        ("a -- b \\ c\nd", ["a", "d"]),
        ("a /* never closed", ["a"]),
        ("a 'never closed\nb", ["a", "'never closed\nb"]),
        ("a `never closed", ["a", "`never closed"]),
        ("'odd \\", ["'odd \\"]),
        ("größe ポンプ", ["größe", "ポンプ"]),
        ("a\x00b", ["a", "\x00", "b"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_literals_and_names_mean_what_is_between_the_quotes() -> None:
    found = list(words(r"'it\'s' `a``b` 12 name R'x'"))
    assert [word.literal for word in found] == ["it's", None, "12", None, "x"]
    assert [word.named for word in found] == [None, "a`b", "12", "name", None]
    assert found[1].sort is Sort.QUOTED


def test_text_without_comments_keeps_every_place() -> None:
    text = "select a /* one\n two */, b -- three\nfrom `-- no` where c = '/* no */'"
    plain = without_comments(text)
    assert len(plain) == len(text)
    assert plain.split() == ["select", "a", ",", "b", "from", "`--", "no`", "where", "c", "=", "'/*", "no", "*/'"]
    assert [at for at, c in enumerate(plain) if c == "\n"] == [at for at, c in enumerate(text) if c == "\n"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select from a.b, c.d join `e f`.`g`", ["a.b", "c.d", "e f.g"]),
        ("select x from a.b where x in (select y from c.d, e.f) and z, g.h", ["a.b", "c.d", "e.f"]),
        ("select f(x, c.d), g.h from a.b group by c.d, e.f", ["a.b"]),
        ("select extract(day from c.d), x is distinct from e.f from a.b", ["a.b"]),
        ("from a.b select x", ["a.b"]),
        ("select * from (from a.b select x), ((c.d join e.f))", ["a.b", "c.d", "e.f"]),
        ("select * from a.b on x = y, c.d", ["a.b", "c.d"]),
        ("select * from one, a.b t", ["a.b"]),
        ("select * from a.b lateral view explode(c.d) t as x, y where z", ["a.b"]),
        ("select * from a.b, lateral (select * from c.d)", ["a.b", "c.d"]),
        ("select * from values (1), a.b", ["a.b"]),
        ("table a.b union all table c.d", ["a.b", "c.d"]),
        ("select * from read_all('x', \"y\", 3, true) r, a.b", ["read_all(x,y,3,true)", "a.b"]),
        ("select * from read_all(lower('x')), a.b", ["a.b"]),
        ("select lookup('k', x) from a.b", ["lookup(k,None)", "a.b"]),
        ("select * from read_all('never closed", []),
        (")))) from a.b", ["a.b"]),
        ("select 'from x.y' from -- c.d\n a.b", ["a.b"]),
        ("SELECT * FROM A.b JOIN a.B", ["A.b", "a.B"]),
    ],
)
def test_tables_by_their_place(text: str, expected: list[str]) -> None:
    assert scanned(text) == expected


def test_what_is_wrong_with_a_table_is_reported_once() -> None:
    sources, problems = scan(list(words("select * from odd('x'), odd('y'), a.b.c join a.b")), PlainCatalog())
    assert [source.name for source in sources] == ["a.b"]
    assert problems == ("function odd is not known", "table a.b.c is not known")
