"""The commands `demo` and `simulate`. Imports only typer, so that `--help` answers at once."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class SimulatorName(StrEnum):
    CDF = "cdf"
    WETRANSFORM = "wetransform"
    DATAPREP = "dataprep"
    MARQUEZ = "marquez"
    ALL = "all"


def simulator_name(text: str) -> SimulatorName:
    """The parser of the argument, as typer's own for enums puts pydantic's `Value error` before its message."""
    try:
        return SimulatorName(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(SimulatorName)}") from None


def add_demo(app: typer.Typer) -> None:
    app.command(
        epilog="Example: lineage-collector demo --marquez http://localhost:5000 --forever",
        short_help="See it at work without any account.",
    )(demo)


def add_simulate(app: typer.Typer) -> None:
    app.command(
        epilog="Example: lineage-collector simulate marquez --port 5000",
        short_help="Serve a simulated platform or Marquez.",
    )(simulate)


def simulate(
    platform: Annotated[
        SimulatorName,
        typer.Argument(metavar="PLATFORM", help=f"What to serve: {', '.join(SimulatorName)}.", parser=simulator_name),
    ],
    port: Annotated[int, typer.Option("--port", metavar="NUMBER", min=0, max=65533, help="0 takes a free one.")] = 0,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 in a container.")
    ] = "127.0.0.1",
    seed: Annotated[
        int, typer.Option("--seed", metavar="NUMBER", help="The same seed gives the same scenarios (not for all).")
    ] = 1,
) -> None:
    """Serve one simulator until interrupted; with "all" the three platforms, on PORT and the next two, with runs that go
    on and on.
    """
    from simulators import serve  # noqa: PLC0415 - only when it runs

    sys.exit(serve.run(platform.value, host, port, seed))


def demo(
    marquez: Annotated[
        str | None, typer.Option("--marquez", metavar="URL", help="A real Marquez instead of the simulated one.")
    ] = None,
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="HOST:PORT", help="A Kafka to deliver to as well.")
    ] = None,
    events: Annotated[
        Path | None, typer.Option("--events", metavar="FILE", help="Where to write the NDJSON file.")
    ] = None,
    *,
    forever: Annotated[
        bool, typer.Option("--forever", help="Keep starting runs, and the pages open, until interrupted.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts instead of a table.")] = False,
) -> None:
    """Three simulated platforms, a collector, a file and a Marquez: watch runs become events, about 20 s."""
    from simulators.demo import demo as demonstration  # noqa: PLC0415 - only when it runs

    sys.exit(demonstration.run(marquez=marquez, kafka=kafka, events=events, forever=forever, as_json=as_json))
