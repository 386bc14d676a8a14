import io
import json
import logging
import sys

import pytest

from collector.logs import JsonFormatter, RepeatFilter, TextFormatter, fields, set_up

pytestmark = pytest.mark.usefixtures("logging_as_it_was")


def record(event: str = "poll.failed", level: int = logging.WARNING, **context: object) -> logging.LogRecord:
    made = logging.LogRecord("lineage.poll", level, __file__, 1, event, None, None)
    made.__dict__.update(fields(**context))
    return made


def test_json_has_the_event_and_its_fields() -> None:
    body = json.loads(JsonFormatter().format(record(source="plant-a", run_id="x", cause=None)))
    assert body["event"] == "poll.failed"
    assert body["source"] == "plant-a"
    assert body["level"] == "warning"
    assert "cause" not in body


def test_a_field_does_not_hide_what_every_line_has() -> None:
    made = record("dataprep.level_detected", logging.INFO)
    made.__dict__.update(fields(level="L2", time="noon"))
    body = json.loads(JsonFormatter().format(made))
    assert (body["level"], body["level_"], body["time_"]) == ("info", "L2", "noon")


def test_text_quotes_what_has_spaces() -> None:
    assert 'cause="no route to host"' in TextFormatter().format(record(cause="no route to host"))


def test_an_error_is_on_one_json_line() -> None:
    made = record()
    try:
        raise ValueError("boom")
    except ValueError:
        made.exc_info = sys.exc_info()
    text = JsonFormatter().format(made)
    assert "\n" not in text
    assert "boom" in json.loads(text)["error"]


def test_the_same_warning_comes_once_a_minute_with_a_count() -> None:
    now = [0.0]
    repeats = RepeatFilter(60.0, lambda: now[0])
    assert repeats.filter(record(sink="m", cause="refused"))
    for second in range(1, 60):
        now[0] = float(second)
        assert not repeats.filter(record(sink="m", cause="refused"))
    assert repeats.filter(record(sink="m", cause="something else"))
    now[0] = 61.0
    again = record(sink="m", cause="refused")
    assert repeats.filter(again)
    assert again.__dict__["fields"]["repeated"] == 59


def test_what_is_no_warning_is_never_held_back() -> None:
    repeats = RepeatFilter(60.0, lambda: 0.0)
    assert all(repeats.filter(record(level=logging.INFO)) for _ in range(3))


@pytest.mark.parametrize(("form", "as_json"), [("auto", True), ("json", True), ("text", False)])
def test_a_pipe_gets_json_by_default(form: str, as_json: bool) -> None:
    stream = io.StringIO()
    set_up("info", form, stream)
    logging.getLogger("lineage.x").info("service.started", extra=fields(port=1))
    assert stream.getvalue().startswith("{") is as_json


def test_what_nobody_caught_is_on_a_line_without_secrets() -> None:
    stream = io.StringIO()
    set_up("error", "json", stream)
    try:
        raise KeyError("no password=hunter2secret here")
    except KeyError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "process.crashed"
    assert "hunter2" not in line
