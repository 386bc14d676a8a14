"""The page about logs lists every event that the code logs, with its fields and what it means."""

from tests.log_events import PAGE, fresh, log_events, meanings

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_fresh() -> None:
    assert fresh(TEXT) == TEXT, "run python -m tests.log_events"


def test_every_event_is_there_with_a_meaning() -> None:
    known = meanings(TEXT)
    assert set(known) == set(log_events())
    assert len(known) > 80
    assert [name for name, meaning in known.items() if not meaning.endswith(".")] == []


def test_fields_are_found_where_they_are_named_first() -> None:
    events = log_events()
    assert {"source", "run_id", "type"} <= events["run.changed"].fields
    assert {"sink", "cause"} <= events["doubt.settled"].fields


def test_what_is_about_a_source_names_it() -> None:
    of_sources = ("cdf.", "dataprep.", "definition.", "discovery.", "enrichment.", "poll.")
    found = {name: event.fields for name, event in log_events().items() if name.startswith(of_sources)}
    assert [name for name, named in found.items() if "source" not in named] == []
