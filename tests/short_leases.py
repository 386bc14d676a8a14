"""The program with leases of seconds in place of minutes, for tests that wait until one is over: `python -m tests.short_leases run`.

It calls itself `PROCESS` (of its environment) in its requests.
"""

import os
from datetime import timedelta

from collector import http
from collector.app import heartbeat, housekeeping
from collector.app.cli import main
from collector.ledger import held_lease, replicas
from collector.ledger.postgres import watch
from collector.polling import requests, source
from exporters.sinks import file

SECONDS = 8.0
"""Of a lease, the longest request under it included; a sink's attempt may take `LONGEST` of them."""
LONGEST = 4.0


def shorten() -> None:
    held_lease.MARGIN = SECONDS - LONGEST
    held_lease.RENEW_EVERY = 1.0
    held_lease.STANDBY_LOOK = 2.0
    requests.PATIENCE = LONGEST
    vars(source)["PATIENCE"] = LONGEST  # each module has its own name for it
    vars(heartbeat)["BEAT_EVERY"] = 1.0
    housekeeping.LOOK = 1.0
    replicas.LIVES_FOR_MS = 5_000
    watch.SILENT_AFTER = 3.0
    file.FileSink.longest_attempt = timedelta(seconds=LONGEST)
    http.USER_AGENT = os.environ.get("PROCESS", http.USER_AGENT)


if __name__ == "__main__":
    shorten()
    main()
