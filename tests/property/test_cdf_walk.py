"""Every job is found and none twice, however the list is paged and ordered and whenever jobs come."""

from dataclasses import replace
from datetime import timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.platforms.cdf.job_list import DISORDER, OVERLAP, Mark, Walk, read_mark
from collector.platforms.cdf.rows import JobRow, read_job
from collector.platforms.watermark import Clocks

BASE = 1_795_300_000_000
MINUTE = 60_000


def row(number: int, minute: int) -> JobRow:
    data = {"id": number, "createdTime": BASE + minute * MINUTE + number, "transformationId": 1, "status": "Completed"}
    found = read_job(data)
    assert found is not None
    return found


def walked(jobs: list[JobRow], mark: Mark, page_size: int, before: frozenset[int], *, thorough: bool) -> Walk:
    now = Clocks(BASE + 10_000 * MINUTE, BASE + 10_000 * MINUTE)
    walk = Walk(mark, mark.floor, now, thorough=thorough, first=False, full=False, before=before)
    for start in range(0, max(len(jobs), 1), page_size):
        page = jobs[start : start + page_size]
        walk.take(page)
        if walk.ends(page, len(page), more=start + page_size < len(jobs)):
            break
    return walk


@settings(max_examples=300)
@given(
    batches=st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=8),
    page_size=st.integers(1, 7),
    order=st.sampled_from(["newest", "oldest", "shuffled"]),
    seed=st.integers(0, 1000),
)
def test_every_job_is_taken_once(batches: list[list[int]], page_size: int, order: str, seed: int) -> None:
    """Each batch of jobs appears some minutes after the last, each job up to four minutes late."""
    jobs: list[JobRow] = []
    taken: list[int] = []
    known: dict[int, int] = {}
    mark = Mark(newest=BASE - MINUTE, since=BASE - MINUTE)
    for step, late in enumerate(batches):
        jobs += [row(len(jobs) + place + 1, 6 * step + 5 - minutes) for place, minutes in enumerate(late)]
        shown = sorted(jobs, key=lambda job: (job.created, job.id), reverse=order == "newest")
        if order == "shuffled":
            Random(seed + step).shuffle(shown)
        walk = walked(shown, mark, 5 if order != "newest" else page_size, frozenset(known), thorough=True)
        taken += walk.taken
        if order != "shuffled" or walk.ordered is False or len(jobs) <= 5:
            assert set(taken) == {job.id for job in jobs}
        mark = walk.moved()
        known = {one: at for one, at in (known | walk.taken).items() if at >= mark.floor}
    assert len(taken) == len(set(taken))


def test_a_mark_comes_back_as_it_went() -> None:
    mark = Mark(5, 3, 7, 9, 4)
    assert read_mark(mark.text()) == mark
    assert mark.floor == 3
    assert Mark(BASE, 3).floor == BASE - OVERLAP.total_seconds() * 1000


def test_a_rename_hides_no_gap() -> None:
    jobs = [replace(row(number, 1), external_id="old" if number < 600 else "new") for number in range(1200)]
    clocks = Clocks(BASE + 10 * MINUTE, BASE + 10 * MINUTE)
    walk = Walk(Mark(BASE, BASE), BASE, clocks, thorough=True, first=False, full=False, before=frozenset())
    walk.count(walk.take(jobs[::-1]))
    assert [skip.subject for skip in walk.lost()] == ["transformation new"]


def test_a_little_disorder_is_that_of_several_clocks_and_more_ends_the_trust() -> None:
    first = row(1, 5)
    assert first.created is not None
    for ms, ordered in ((DISORDER, True), (DISORDER + 1, False)):
        later = replace(row(2, 5), created=first.created + timedelta(milliseconds=ms))
        assert walked([first, later], Mark(BASE, BASE), 5, frozenset(), thorough=True).ordered is ordered


def test_a_page_that_rises_from_end_to_end_is_oldest_first_however_close_its_jobs_are() -> None:
    first = row(1, 5)
    assert first.created is not None
    for count, ordered in ((4, True), (5, False)):
        jobs = [replace(row(n, 5), created=first.created + timedelta(milliseconds=100 * n)) for n in range(count)]
        assert walked(jobs, Mark(BASE, BASE), 50, frozenset(), thorough=True).ordered is ordered


def test_a_page_of_jobs_from_the_future_does_not_end_a_walk() -> None:
    """They stay on top of the list until their time has come, and what is new comes behind them."""
    early = [row(number, 20_000) for number in range(5, 0, -1)]
    known = frozenset(job.id for job in early)
    walk = walked([*early, row(9, 6)], Mark(BASE, BASE - MINUTE), 5, known, thorough=False)
    assert list(walk.taken) == [9]


def test_a_clock_that_was_set_back_to_before_the_first_look_takes_that_look_back() -> None:
    mark = Mark(newest=BASE, since=BASE, read=BASE)
    set_back = Clocks(server=BASE - 60 * MINUTE, ours=BASE + MINUTE)
    moved = mark.as_of(set_back)
    assert moved.newest == moved.since == moved.floor == BASE - 61 * MINUTE
