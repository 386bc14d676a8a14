"""`python -m collector` is `lineage-collector`."""

import gc
import os
import signal
import sys


def main() -> None:
    """Entry point. A service that is asked to end before it has begun ends with 0: nothing is open yet. The first process of
    a container would not get that signal at all: the kernel has no default there. Ctrl-C ends any command with one line and 130.
    """
    if sys.argv[1:2] == ["run"]:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        gc.disable()  # until all is imported, which makes next to no garbage: a tenth of the CPU of the start
    # httpx imports its own command line if it can, and with it click, rich and pygments: 4 MiB
    sys.modules["httpx._main"] = None  # type: ignore[assignment] # the import system's way to say that there is none
    try:
        from collector.app import cli  # noqa: PLC0415 - it takes long enough for a signal to come

        cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
