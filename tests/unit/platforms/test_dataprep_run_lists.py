"""Walks through Dataprep's lists of runs: what is asked for, what is given on, and when a walk does not trust its answers."""

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from collector.clock import from_ms
from collector.errors import BadAnswer
from collector.platforms.dataprep import run_lists
from collector.platforms.dataprep.api import Api, Query
from collector.platforms.dataprep.levels import Deployment
from collector.platforms.dataprep.run_lists import DEFAULT_PAGE, MOST_IDLE, PAGE, SLACK, Page, Unordered

Row = Mapping[str, Any]
Answer = Callable[[Query], Mapping[str, Any]]


BEGIN_MS = 1_700_000_000_000


def row(number: int, changed_ms: int = 0, status: str = "Complete") -> Row:
    return {"id": number, "status": status, "updatedAt": moment(changed_ms)}


def moment(after_ms: int) -> str:
    return from_ms(BEGIN_MS + after_ms).isoformat(timespec="milliseconds")


class Answers:
    """Stands for the deployment: answers as a function of the query says, and keeps the queries."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.queries: list[Query] = []

    async def get(self, path: str, *, query: Query) -> Mapping[str, Any]:
        self.queries.append(query)
        return self._answer(query)

    @property
    def offsets(self) -> list[int]:
        return [int(query["offset"]) for query in self.queries]


def api(answers: Answers) -> Api:
    return cast(Api, answers)


def in_turn(*bodies: Mapping[str, Any]) -> Answers:
    """These answers one after the other, whatever is asked."""
    left = iter(bodies)
    return Answers(lambda _: next(left))


def sorted_by_change(rows: Sequence[Row], *, total: bool = True) -> Answers:
    """A list that sorts and filters by the time of the last change, as it is asked to."""

    def answer(query: Query) -> Mapping[str, Any]:
        floor = moment(int(query["dateFilter[updatedAt][gte]"]) - BEGIN_MS)
        found = sorted((one for one in rows if one["updatedAt"] >= floor), key=lambda one: one["updatedAt"])
        begin = int(query["offset"])
        counted = {"count": len(found)} if total else {}
        return {"data": found[begin : begin + PAGE], **counted}

    return Answers(answer)


async def walked(pages: AsyncIterable[Page]) -> list[Page]:
    return [page async for page in pages]


def keys(pages: Sequence[Page]) -> list[int]:
    return [int(group.key) for page in pages for group in page.groups]


async def test_changes_come_oldest_first_and_none_twice() -> None:
    answers = sorted_by_change([row(number, 1000 * (number // 2)) for number in range(250)])
    pages = await walked(run_lists.changed(api(answers), BEGIN_MS))
    assert keys(pages) == list(range(250))
    assert [page.last for page in pages] == [False, False, True]
    assert {query["sort"] for query in answers.queries} == {"updatedAt"}


async def test_everything_before_the_time_that_is_safe_has_been_given() -> None:
    rows = [row(number, 1000 * (number // 3)) for number in range(280)]
    given: set[str] = set()
    async for page in run_lists.changed(api(sorted_by_change(rows)), BEGIN_MS):
        assert page.safe_ms is not None
        before = {str(one["id"]) for one in rows if one["updatedAt"] < moment(page.safe_ms - BEGIN_MS)}
        assert before <= given
        given |= {group.key for group in page.groups}
    assert len(given) == 280


async def test_rows_of_one_moment_are_walked_by_offset_without_a_step_back_in_time() -> None:
    answers = sorted_by_change([row(number, 5000) for number in range(230)])
    pages = await walked(run_lists.changed(api(answers), BEGIN_MS))
    assert keys(pages) == list(range(230))
    assert answers.offsets == [0, 0, 100, 200], "the second request asks again from the moment that fills the page"


async def test_a_walk_goes_on_in_time_behind_a_moment_of_several_pages() -> None:
    rows = [row(number, 5000) for number in range(230)] + [row(number, 5000 + number) for number in range(230, 450)]
    pages = await walked(run_lists.changed(api(sorted_by_change(rows)), BEGIN_MS))
    assert keys(pages) == list(range(450))


async def test_changes_in_any_order_are_those_since_then_and_by_offset() -> None:
    answers = in_turn({"data": [row(2), row(1)], "count": 2})
    assert keys(await walked(run_lists.changed_in_any_order(api(answers), BEGIN_MS))) == [2, 1]
    assert answers.queries[0]["dateFilter[updatedAt][gte]"] == BEGIN_MS
    assert answers.offsets == [0]


async def test_a_change_within_the_moment_on_the_border_of_pages_is_given() -> None:
    rows = [row(number, 1000) for number in range(99)] + [row(99, 2000, "InProgress")]
    after = [row(99, 2000, "Complete"), row(100, 2000)]
    pages = await walked(
        run_lists.changed(api(in_turn({"data": rows, "count": 101}, {"data": after, "count": 2})), BEGIN_MS)
    )
    assert [(group.key, group.status) for group in pages[1].groups] == [("99", "Complete"), ("100", "Complete")]


async def test_a_row_that_is_given_again_as_it_was_is_dropped() -> None:
    rows = [row(number, 1000) for number in range(99)] + [row(99, 2000)]
    pages = await walked(
        run_lists.changed(
            api(in_turn({"data": rows, "count": 101}, {"data": [row(99, 2000), row(100, 2000)], "count": 2})), BEGIN_MS
        )
    )
    assert keys(pages) == list(range(101))


async def test_changes_without_a_count_cannot_be_trusted_beyond_a_page() -> None:
    with pytest.raises(Unordered):
        await walked(
            run_lists.changed(api(sorted_by_change([row(one, one) for one in range(150)], total=False)), BEGIN_MS)
        )


async def test_changes_without_a_count_on_one_short_page_are_all_there_is() -> None:
    answers = sorted_by_change([row(one, one) for one in range(DEFAULT_PAGE - 1)], total=False)
    [page] = await walked(run_lists.changed(api(answers), BEGIN_MS))
    assert page.last


@pytest.mark.parametrize(("count", "trusted"), [(51, True), (52, True), (50, False)], ids=["same", "more", "fewer"])
async def test_changes_that_are_fewer_than_at_first_may_have_been_passed_over(count: int, trusted: bool) -> None:
    """150 are counted; 99 of them are older than the last of the first page, so 51 have to be left."""
    first = {"data": [row(number, number) for number in range(100)], "count": 150}
    left = {"data": [row(number, number) for number in range(99, 149)], "count": count}
    rest = {"data": [row(number, number) for number in range(148, 160)], "count": 12}
    walk = walked(run_lists.changed(api(in_turn(first, left, rest)), BEGIN_MS))
    if trusted:
        assert keys(await walk)[:149] == list(range(149))
    else:
        with pytest.raises(Unordered):
            await walk


async def test_changes_of_which_not_even_the_last_is_left_may_have_been_passed_over() -> None:
    first = {"data": [row(number, number) for number in range(100)], "count": 100}
    with pytest.raises(Unordered):
        await walked(run_lists.changed(api(in_turn(first, {"data": [], "count": 0})), BEGIN_MS))


async def test_changes_that_were_passed_over_late_in_a_walk_are_noticed() -> None:
    first = {"data": [row(number, number) for number in range(100)], "count": 250}
    second = {"data": [row(number, number) for number in range(99, 199)], "count": 151}
    third = {"data": [row(number, number) for number in range(198, 249)], "count": 51}
    with pytest.raises(Unordered):
        await walked(run_lists.changed(api(in_turn(first, second, third)), BEGIN_MS))


async def test_changes_out_of_order_are_given_and_then_not_trusted() -> None:
    rows = [row(number, number) for number in range(100)]
    rows[40], rows[60] = rows[60], rows[40]
    walk = run_lists.changed(api(in_turn({"data": rows, "count": 200})), BEGIN_MS)
    assert len(keys([await anext(walk)])) == 100
    with pytest.raises(Unordered):
        await anext(walk)


async def test_a_list_that_gives_the_same_rows_for_ever_ends_with_a_sentence() -> None:
    answers = Answers(lambda _: {"data": [row(number) for number in range(30)], "count": 1000})
    with pytest.raises(BadAnswer, match="repeats the same rows whatever the offset"):
        await walked(run_lists.in_status(api(answers), "InProgress"))
    assert len(answers.queries) == 1 + MOST_IDLE + 1


async def test_a_few_pages_without_anything_new_do_not_end_a_walk() -> None:
    first, fresh, last = ({"data": rows, "count": 400} for rows in ([row(1), row(2)], [row(3), row(4)], []))
    answers = in_turn(first, *[first] * MOST_IDLE, fresh, *[first] * MOST_IDLE, last)
    assert keys(await walked(run_lists.in_status(api(answers), "InProgress"))) == [1, 2, 3, 4]


async def test_pages_overlap_so_that_runs_deleted_between_them_hide_no_others() -> None:
    rows = list(range(250, 0, -1))
    answers = Answers(
        lambda query: {
            "data": [row(one) for one in rows[int(query["offset"]) : int(query["offset"]) + PAGE]],
            "count": len(rows),
        }
    )
    given = []
    async for page in run_lists.in_status(api(answers), "InProgress"):
        given.append(page)
        del rows[:SLACK]
    assert keys(given) == list(range(250, 0, -1))
    assert answers.offsets == [0, 95, 190]


async def test_short_pages_are_stepped_over_whole() -> None:
    """Where the page length is not obeyed and pages are short, an overlap would hardly move."""
    rows = [row(number) for number in range(40)]
    answers = Answers(
        lambda query: {"data": rows[int(query["offset"]) : int(query["offset"]) + 2 * SLACK], "count": 40}
    )
    assert keys(await walked(run_lists.in_status(api(answers), "InProgress"))) == list(range(40))
    assert answers.offsets == [0, 10, 20, 30]


@pytest.mark.parametrize(
    ("length", "requests"), [(DEFAULT_PAGE - 1, 1), (DEFAULT_PAGE, 2), (0, 1)], ids=["short", "full", "empty"]
)
async def test_without_a_count_a_page_below_the_default_length_is_the_last(length: int, requests: int) -> None:
    pages: list[Mapping[str, Any]] = [{"data": [row(number) for number in range(length)]}, {"data": []}]
    answers = in_turn(*pages)
    walk = await walked(run_lists.in_status(api(answers), "InProgress"))
    assert (len(answers.queries), walk[-1].last, walk[-1].whole) == (requests, True, True)


@pytest.mark.parametrize(("count", "whole"), [(3, True), (4, False)])
async def test_a_walk_that_gave_fewer_rows_than_are_counted_is_not_whole(count: int, whole: bool) -> None:
    """A row that cannot be read is one of them."""
    bodies = ({"data": [row(1), row(2), {"id": None}], "count": count}, {"data": [], "count": count})
    pages = await walked(run_lists.in_status(api(in_turn(*bodies)), "InProgress"))
    assert (pages[-1].whole, pages[-1].last) == (whole, True)
    assert len(pages[0].skips) == 1


async def test_a_row_that_cannot_be_read_is_counted_whatever_page_it_is_on() -> None:
    """Else a list with it on an earlier page would be read anew with each poll, from the same time on."""
    first = {"data": [row(1), row(2), {"id": None}], "count": 5}
    pages = await walked(
        run_lists.changed_in_any_order(api(in_turn(first, {"data": [row(3), row(4)], "count": 5})), BEGIN_MS)
    )
    assert [(page.whole, page.last) for page in pages] == [(True, False), (True, True)]


@pytest.mark.parametrize(
    ("first", "second", "ordered"),
    [([7, 6, 5], [4, 3], True), ([7, 6, 5], [8, 3], False), ([7], [8], False)],
    ids=["highest first", "broken between two pages", "broken between two pages of one row"],
)
async def test_the_order_of_the_newest_is_watched_across_pages(
    first: list[int], second: list[int], ordered: bool
) -> None:
    bodies = [{"data": [row(number) for number in page], "count": len(first) + len(second)} for page in (first, second)]
    pages = await walked(run_lists.newest(api(in_turn(*bodies)), Deployment(api(in_turn()), "prep", lambda: 0.0)))
    assert [page.ordered for page in pages] == [True, ordered]


async def test_an_order_that_was_broken_once_is_not_trusted_on_later_pages() -> None:
    bodies: list[Mapping[str, Any]] = [
        {"data": [row(one) for one in page], "count": 9} for page in ([7, 9, 8], [6, 5, 4], [3, 2, 1])
    ]
    deployment = Deployment(api(in_turn()), "prep", lambda: 0.0)
    pages = await walked(run_lists.newest(api(in_turn(*bodies)), deployment))
    assert [page.ordered for page in pages] == [False, False, False]
