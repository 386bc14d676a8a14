"""What the database and the platforms themselves saw of who held which lease: an oracle that asks no replica.

Triggers write down who takes each lease, and who commits under it; the simulators write down who asks them. A process is known
to both by its name.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from aiohttp import web

from collector.testing.faults import Faults

JUST_THAWED = 5.0
"""Seconds: what a process was about to send when it was frozen cannot be fenced, so it may still come."""

NOTED_WITHIN = 1.0
"""Seconds until a simulator on a busy machine comes to write down a request that has arrived."""

AUDIT = """
CREATE SCHEMA audit;
CREATE TABLE audit.tenure (lease text, token bigint, process text, at double precision);
CREATE TABLE audit.written (lease text, token bigint, process text);
CREATE FUNCTION audit.taken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_OP = 'INSERT' OR NEW.token <> OLD.token THEN
    INSERT INTO audit.tenure
    VALUES (NEW.name, NEW.token, current_setting('application_name'), extract(epoch FROM clock_timestamp()));
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION audit.polled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit.written SELECT l.name, l.token, current_setting('application_name')
  FROM lineage.run r JOIN lineage.source s ON s.id = r.source_id JOIN lineage.lease l ON l.name = 'source:' || s.name
  WHERE r.id = NEW.run_id;
  RETURN NULL;
END $$;
CREATE FUNCTION audit.settled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit.written SELECT l.name, l.token, current_setting('application_name')
  FROM lineage.sink s
  JOIN lineage.lease l ON l.name = 'sink:' || s.name || CASE s.shards WHEN 1 THEN '' ELSE '#' || OLD.strand_id % s.shards END
  WHERE s.id = OLD.sink_id;
  RETURN NULL;
END $$;
CREATE TRIGGER taken AFTER INSERT OR UPDATE ON lineage.lease FOR EACH ROW EXECUTE FUNCTION audit.taken();
CREATE TRIGGER polled AFTER INSERT ON lineage.event FOR EACH ROW EXECUTE FUNCTION audit.polled();
CREATE TRIGGER settled AFTER DELETE OR UPDATE OF next_seq ON lineage.lane FOR EACH ROW EXECUTE FUNCTION audit.settled();
"""

_FOREIGN = """
SELECT DISTINCT w.lease, w.token, w.process, t.process FROM audit.written w LEFT JOIN audit.tenure t USING (lease, token)
WHERE t.process IS DISTINCT FROM w.process
"""


@dataclass(frozen=True, slots=True)
class Request:
    """To a platform. `at` in seconds since the epoch, of the clock that the database has, too."""

    source: str
    process: str
    at: float


@dataclass(frozen=True, slots=True)
class Tenure:
    """A lease taken by a process, until the next one takes it."""

    lease: str
    process: str
    at: float


class NotedRequests(Faults):
    """Of a simulator: it also writes down which process asks."""

    def __init__(self, source: str, noted: list[Request]) -> None:
        super().__init__()
        self._source, self._noted = source, noted

    def middleware(self, error_body: Callable[[int], Any]) -> Any:
        faulty = super().middleware(error_body)

        @web.middleware
        async def note(request: web.Request, handler: Any) -> web.StreamResponse:
            process = request.headers.get("User-Agent", "")
            self._noted.append(Request(self._source, process, time.time()))
            answer: web.StreamResponse = await faulty(request, handler)
            return answer

        return note


def foreign_commits(conn: "psycopg.Connection[Any]") -> list[tuple[Any, ...]]:
    """Commits under a lease that another process had taken: lease, token, who committed, who had it."""
    return conn.execute(_FOREIGN).fetchall()


def tenures(conn: "psycopg.Connection[Any]") -> list[Tenure]:
    return [Tenure(*row) for row in conn.execute("SELECT lease, process, at FROM audit.tenure ORDER BY token, at")]


def foreign_requests(
    requests: Iterable[Request], taken: Iterable[Tenure], thawed: Mapping[str, Sequence[float]]
) -> list[str]:
    """Requests to a source by a process while another one, or none, had taken its lease."""
    by_lease: defaultdict[str, list[Tenure]] = defaultdict(list)
    for tenure in taken:
        by_lease[tenure.lease].append(tenure)
    wrong = []
    for request in requests:
        of_source = by_lease[f"source:{request.source}"]
        holders = {_holder(of_source, at) for at in (request.at - NOTED_WITHIN, request.at)}
        late = any(0 <= request.at - at < JUST_THAWED for at in thawed.get(request.process, ()))
        if request.process not in holders and not late:
            wrong.append(f"{request.process} asked {request.source} at {request.at}, and {holders} had its lease")
    return wrong


def _holder(taken: Sequence[Tenure], at: float) -> str:
    before = [each.process for each in taken if each.at <= at]
    return before[-1] if before else "nobody"
