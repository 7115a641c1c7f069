from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

import mmdata
from mmdata.errors import ConfigError, UsageError
from mmdata.mixture import TokenColumn, merge, select
from mmdata.rejects import Reason, Reject
from mmdata.report import count_tokens_by
from mmdata.schema import Conversation, Media, assistant, replace, user
from mmdata.store import Store
from tests.conversations import conversations, plain
from tests.stores import numbered, write
from tests.templates.families import FAMILIES, Family, said

# An expression, and what it says of a conversation.
EXPRESSIONS: dict[str, Callable[[Conversation], bool] | None] = {
    "turns > 2": lambda row: len(row.messages) > 2,
    "len(messages) <= 2 and media_per_row > 0": lambda row: (
        len(row.messages) <= 2 and len(row.media) > 0
    ),
    "split = 'train' or desirable": lambda row: row.split == "train" or row.desirable is True,
    "characters < 20": lambda row: (
        sum(len(getattr(part, "text", "")) for m in row.messages for part in m.content) < 20
    ),
    "media[1].duration > 10": lambda row: (
        bool(row.media) and row.media[0].duration is not None and row.media[0].duration > 10
    ),
    "rejected is not null": lambda row: row.rejected is not None,
    "turns >= (select max(turns) from rows)": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("where", EXPRESSIONS)
@settings(max_examples=15, deadline=None)
@given(rows=st.lists(conversations(), min_size=1, max_size=6), parquet=st.booleans())
def test_the_rows_that_an_expression_is_true_of_are_selected_unchanged(
    where: str, rows: list[Conversation], parquet: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("select")
    rows = [replace(row, id=f"{n}") for n, row in enumerate(rows)]
    store = write(folder / "store", rows, parquet=parquet)
    most = max(len(row.messages) for row in rows)
    is_wanted = EXPRESSIONS[where] or (lambda row: len(row.messages) == most)

    report = select(store, folder / "some", where=where)

    wanted = [row for row in store if is_wanted(row)]
    assert list(mmdata.open(folder / "some")) == wanted
    assert (report.rows, report.selected) == (len(rows), len(wanted))


@pytest.mark.parametrize("family", FAMILIES[:3], ids=str)
def test_tokens_are_those_that_a_template_makes_of_a_row_before_any_cut(
    family: Family, tmp_path: Path
) -> None:
    rows = [replace(said("yes " * n), id=f"{n}") for n in range(9)]
    store = write(tmp_path / "store", rows)
    limit = len(family.template().encode(rows[4]))
    counted = count_tokens_by(family.template(max_length=1))

    report = select(store, tmp_path / "some", where=f"tokens <= {limit}", tokens=counted)

    some = mmdata.open(tmp_path / "some")
    assert list(some) == [row for row in store if len(family.template().encode(row)) <= limit]
    assert 4 < report.selected < 9
    assert some.manifest.options["tokens"] == counted.read_by
    assert type(family.template()).__name__ in counted.read_by


def test_a_row_that_a_template_cannot_read_has_no_tokens_and_is_counted(tmp_path: Path) -> None:
    rows = [said("yes"), replace(said("yes", "What?", Media("video", "a.mp4")), id="clip")]
    store = write(tmp_path / "store", rows)
    counted = count_tokens_by(FAMILIES[0].template())

    report = select(store, tmp_path / "none", where="tokens is null", tokens=counted)

    assert [row.id for row in mmdata.open(tmp_path / "none")] == ["clip"]
    assert report.not_encoded == 1
    assert report.fault


def test_tokens_are_counted_for_nobody_who_does_not_name_them(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 3)
    counted = count_tokens_by(FAMILIES[0].template())

    with pytest.raises(ConfigError, match=r"'tokens > 1'.*--template FAMILY --tokenizer FILE"):
        select(store, tmp_path / "some", where="tokens > 1")
    with pytest.raises(UsageError, match="names them, found 'turns > 1'"):
        select(store, tmp_path / "some", where="turns > 1", tokens=counted)
    assert not (tmp_path / "some").exists()

    report = select(store, tmp_path / "some", where="source != 'tokens'")
    assert report.selected == 3


def test_an_expression_sees_all_rows_at_once(tmp_path: Path) -> None:
    """A store is read in batches of thousands, which nobody who writes one knows of."""
    store = numbered(tmp_path / "store", 9000)

    select(store, tmp_path / "some", where="id = (select max(id) from rows)")

    assert [row.id for row in mmdata.open(tmp_path / "some")] == ["c999"]


@pytest.mark.parametrize(
    "where",
    [
        "nothing = 1",
        "turns >",
        "1); drop table rows; select (1",
        "id in (select content from read_text('/etc/hostname'))",
    ],
)
def test_an_expression_that_cannot_be_evaluated_is_refused_and_nothing_is_written(
    where: str, tmp_path: Path
) -> None:
    store = numbered(tmp_path / "store", 3)

    with pytest.raises(ConfigError, match="where"):
        select(store, tmp_path / "some", where=where)

    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("where", ["", " ", "()"])
def test_an_expression_that_says_nothing_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="says nothing"):
        select(numbered(tmp_path / "store", 2), tmp_path / "some", where=where)


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        "random() < 0.1",
        'Random ( ) < 0.1 OR "random"() < 0.1',
        "id = uuid()",
        "now() > '2'",
        "get_current_timestamp() > '2026-01-01'",
        "Current_Date > '2026-01-01'",
        "age(TIMESTAMP '2026-01-01') > INTERVAL 1 DAY",
        "id IN (SELECT id FROM rows USING SAMPLE 2)",
    ],
)
def test_an_expression_that_chooses_other_rows_at_each_run_is_refused(
    call: str, tmp_path: Path
) -> None:
    store = numbered(tmp_path / "store", 3)

    with pytest.raises(ConfigError, match=r"at each run.*--sample random:10%"):
        select(store, tmp_path / "some", where=call)

    said = "source != 'random()' AND age(TIMESTAMP '2026-01-02', '2026-01-01') = INTERVAL 1 DAY"
    assert select(store, tmp_path / "some", where=said).selected == 3


def test_an_expression_is_whole_without_the_parentheses_that_it_is_put_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be one expression"):
        select(numbered(tmp_path / "store", 2), tmp_path / "some", where="turns > 9) OR (true")


def test_duplicates_are_dropped_but_for_the_first_of_what_is_asked_for(tmp_path: Path) -> None:
    first, second = plain(0), plain(1)
    rows = [first, second, replace(first, id="again"), replace(second, id="twice", extra={"a": 1})]
    store = write(tmp_path / "store", rows)

    report = select(store, tmp_path / "some", where="id != 'c0'", drop_duplicates=True)

    assert [row.id for row in mmdata.open(tmp_path / "some")] == ["c1", "again"]
    assert (report.where, report.duplicates, report.selected) == (3, 1, 2)


def test_near_duplicates_are_dropped_but_for_the_first_of_what_is_asked_for_and_it_is_said(
    tmp_path: Path,
) -> None:
    some = [f"w{n}" for n in range(200)]
    rows = [
        Conversation(f"{n}", (user("Go on."), assistant(" ".join([*some[:n], "else", *some[n:]]))))
        for n in range(4)
    ]
    store = write(tmp_path / "store", [*rows, plain(9)])

    report = select(store, tmp_path / "some", where="id != '0'", drop_near_duplicates="texts")

    some_rows = mmdata.open(tmp_path / "some")
    assert [row.id for row in some_rows] == ["1", "c9"]
    assert (report.where, report.near_duplicates, report.selected) == (4, 2, 2)
    told = some_rows.manifest.notes["near_duplicates"]["groups"]["texts"]
    assert (told["duplicates"], told["examples"]) == (2, [["1", "2", "3"]])
    assert "80% of runs of 5 words" in told["rule"]
    assert some_rows.manifest.options["drop_near_duplicates"] == "texts"


def test_rows_that_say_the_same_of_other_pictures_stay(tmp_path: Path) -> None:
    def about(name: str, level: int) -> Conversation:
        out = io.BytesIO()
        picture = Pictures.linear_gradient("L").rotate(level)
        picture.save(out, "PNG")
        medium = Media("image", bytes=out.getvalue())
        return Conversation(name, (user("What is it?"), assistant("A picture.")), (medium,))

    store = write(tmp_path / "store", [about("a", 0), about("b", 90), about("c", 0)])

    texts = select(store, tmp_path / "texts", drop_near_duplicates="texts")
    rows = select(store, tmp_path / "rows", drop_near_duplicates="rows", workers=1)

    assert (texts.selected, rows.selected) == (1, 2)


def test_a_selection_says_what_it_was_made_of_and_keeps_the_rejects(tmp_path: Path) -> None:
    reject = Reject(7, "a.json", None, Reason.BAD_BOX, "found")
    store = write(tmp_path / "store", [plain(0), plain(1)], rejects=[reject])

    select(store, tmp_path / "some", where="id = 'c1'", sample="first:1")

    manifest = mmdata.open(tmp_path / "some").manifest
    assert manifest.options["where"] == "id = 'c1'"
    assert manifest.notes["selected_of"] == {
        "store": str(store.path),
        "fingerprint": store.fingerprint,
    }
    assert manifest.rejects == {"bad_box": 1}


def test_media_of_a_selection_are_where_they_were(tmp_path: Path) -> None:
    row = replace(plain(0), media=(Media("image", "a/b.png"),))
    store = write(tmp_path / "store", [row], media_root=str(tmp_path / "pictures"))

    select(store, tmp_path / "some")

    assert mmdata.open(tmp_path / "some").located(0) == store.located(0)


def test_a_store_is_not_selected_onto_itself(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 3)

    with pytest.raises(UsageError, match="name another"):
        select(store, store.path, overwrite=True)
    assert len(mmdata.open(store.path)) == 3


def test_what_is_merged_is_one_store_after_the_other(tmp_path: Path) -> None:
    stores: list[Store] = [numbered(tmp_path / name, 3) for name in "ab"]

    made = merge([store.path for store in stores], tmp_path / "both")

    assert [row.id for row in made] == ["c0", "c1", "c2", "c0#2", "c1#2", "c2#2"]
    assert len({row.id for row in made}) == 6


def test_a_store_that_is_given_twice_is_refused_by_whichever_way_to_it(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 3).path
    (tmp_path / "link").symlink_to(store)

    for again in (store, tmp_path / "link", tmp_path / "store" / ".." / "store"):
        with pytest.raises(UsageError, match=r"is the same store as .*rows would be there twice"):
            merge([store, again], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_place_that_is_taken_is_refused_before_anything_is_counted(tmp_path: Path) -> None:
    def count(_: Conversation) -> int:
        raise AssertionError("was counted")

    store, taken = numbered(tmp_path / "store", 2), numbered(tmp_path / "taken", 2)

    with pytest.raises(UsageError, match="is a store already"):
        select(store, taken.path, where="tokens > 1", tokens=TokenColumn(count, "nothing"))
