"""The command line. Imports only typer, so that `--help` answers at once; each command imports what it needs."""

import sys
from collections.abc import Callable
from errno import ENOSPC
from functools import cache
from importlib.metadata import entry_points
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import typer

from collector import __version__
from collector.errors import ConfigurationError, LineageError

app = typer.Typer(
    name="lineage-collector",
    help="Watches runs on managed platforms and delivers OpenLineage run events, in order and through crashes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Try it without any platform: lineage-collector demo",
)
runs_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
_EXAMPLE = "Example: lineage-collector runs --source plant-a --state failed --since 2h"
app.add_typer(runs_app, name="runs", short_help="List the latest runs.", epilog=_EXAMPLE)
_PARKED = "Events that a sink refused for good."
parked_app = typer.Typer(help=_PARKED, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(parked_app, name="parked", short_help=_PARKED, epilog="Example: lineage-collector parked list")
ledger_app = typer.Typer(help="The ledger as a whole.", no_args_is_help=True, rich_markup_mode=None)
_COPIES = "Copy the ledger between file and PostgreSQL."
app.add_typer(ledger_app, name="ledger", short_help=_COPIES, epilog="Example: lineage-collector ledger copy --help")

Config = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="LINEAGE_COLLECTOR_CONFIG",
        help="The YAML file; see config/example.yaml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON for scripts instead of a table.")]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="DURATION", help="How long --wait follows the run, such as 10m; the run itself goes on."
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", metavar="NUMBER", min=1, max=1_000_000, help="Show at most this many rows.")
]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Name of a source in the configuration.")]
Sink = Annotated[str, typer.Argument(metavar="SINK", help="Name of a sink in the configuration.")]
OnlySource = Annotated[str | None, typer.Option("--source", metavar="NAME", help="Only this source.")]
OnlyRun = Annotated[str | None, typer.Option("--run", metavar="ID", help="Only the events of this run id.")]
OnlyCause = Annotated[
    str | None, typer.Option("--cause", metavar="TEXT", help="Only those of this cause, as `parked list` shows it.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="Only runs that began or changed since: 2h, 7d, 2026-01-31."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the run to its end; exit 0 only on success.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]
DEFAULT_CONFIG = Path("lineage-collector.yaml")
SIMULATED = frozenset({"demo", "simulate"})
Command = TypeVar("Command", bound=Callable[..., None])


def main() -> None:
    """People get a message, never a traceback, for what is theirs to mend."""
    _add_commands()
    try:
        app()
    except ConfigurationError as error:
        for mistake in error.mistakes:
            typer.echo(f"error: {mistake}", err=True)
        sys.exit(2)
    except LineageError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        typer.echo("error: the output could not be written: no space left on its disk", err=True)
        sys.exit(1)
    except SystemExit as ended:
        _raise_interruption(ended)
        raise


def _raise_interruption(ended: SystemExit) -> None:
    """Raises the `KeyboardInterrupt` that typer made a silent exit of."""
    cause = ended.__context__.__cause__ if ended.__context__ is not None else None
    if isinstance(cause, KeyboardInterrupt):
        raise cause from None


@cache
def _add_commands() -> None:
    """The commands of installed packages, by entry point in the group `lineage_collector.commands`: a function that takes
    `app` and adds one. A package that cannot be loaded loses only its own command.
    """
    points = entry_points(group="lineage_collector.commands")
    for point in sorted(points, key=attrgetter("name")):
        try:
            point.load()(app)
        except Exception as error:  # noqa: BLE001 - the boundary of another package
            cause = f"{type(error).__name__}: {error}"
            typer.echo(f"warning: cannot load the command {point.name!r} from {point.value}: {cause}", err=True)
    for name in SIMULATED - points.names:
        app.command(name, hidden=True, context_settings={"ignore_unknown_options": True})(_simulators_missing)


def _simulators_missing(words: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    missing = "`demo` and `simulate` come with the package lineage-collector-simulators, which is not installed"
    advice = "pip install lineage-collector-simulators (in a checkout: pip install ./simulators)"
    raise ConfigurationError([f"{missing}; try: {advice}"])


def _version(*, value: bool) -> None:
    if value:
        typer.echo(f"lineage-collector {__version__}")
        raise typer.Exit


def command(
    short: str, example: str, *, name: str | None = None, group: typer.Typer = app
) -> Callable[[Command], Command]:
    """Makes a command of a function, whose docstring is its help: `short` stands in the list, `example` below the options."""
    return group.command(name, short_help=short, epilog=f"Example: lineage-collector {example}")


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Watches runs on managed platforms and delivers OpenLineage run events, in order and through crashes."""


@command("Poll every source, deliver to every sink.", "run --config lineage-collector.yaml")
def run(config: Config = DEFAULT_CONFIG) -> None:
    """Poll every source and deliver to every sink until SIGTERM."""
    from collector.app import process

    sys.exit(process.run(config))


@command("Try configuration, sources and sinks once.", "check --config lineage-collector.yaml --offline")
def check(
    config: Config = DEFAULT_CONFIG,
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Only read the files; make no requests.")] = False,
    as_json: Json = False,
) -> None:
    """Check the configuration, each source and each sink once. Exit 0: all passed, 1: a check failed, 2: invalid file."""
    from collector.app import check as app_check

    sys.exit(app_check.run(config, offline=offline, as_json=as_json))


@command("Start a run on a platform.", "trigger plant-a tr_pump_to_asset --param country=DE --wait")
def trigger(
    source: Source,
    job: Annotated[str, typer.Argument(metavar="JOB", help="An id, an external id, or the name that `runs` shows.")],
    config: Config = DEFAULT_CONFIG,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="KEY=VALUE", help="A run parameter, key=value; repeatable.")
    ] = None,
    *,
    execution_id: Annotated[
        str | None,
        typer.Option(
            "--execution-id",
            metavar="ID",
            help="Execution id of an earlier attempt whose answer was lost: repeats it without a second run (Dataprep).",
        ),
    ] = None,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Start a run of JOB with the platform's own endpoint."""
    from collector.app import requests

    options, until = _pairs(param or []), requests.Wait.given(wait, timeout)
    sys.exit(requests.trigger(config, source, job, options, execution=execution_id, wait=until, as_json=as_json))


@command("Follow a run that no list shows.", "watch customers 08990d78-fede-4139-b88a-4d11ca7fbf28")
def watch(
    source: Source,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="The platform's own id of the run.")],
    config: Config = DEFAULT_CONFIG,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="KEY=VALUE",
            help="Parameters that the platform needs to read the run, such as customer=...",
        ),
    ] = None,
    *,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Put a run under watch that the platform cannot list (wetransform, Dataprep Standard)."""
    from collector.app import requests

    until = requests.Wait.given(wait, timeout)
    sys.exit(requests.watch(config, source, run_id, _pairs(param or []), wait=until, as_json=as_json))


@command("Show how each source and sink is.", "status --json")
def status(
    config: Config = DEFAULT_CONFIG,
    *,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Go on until Ctrl-C. In a pipe: one line for each change; with --json one object a line."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show each source and sink: state, last success, lag, pending, parked, and the last error. Exit 0: no problem,
    1: a problem, or no service runs, 130: --watch was ended.
    """
    from collector.app import listings

    if watch:
        listings.watch_status(config, as_json=as_json)
    sys.exit(listings.status(config, as_json=as_json))


@runs_app.callback()
def runs(
    context: typer.Context,
    config: Config = DEFAULT_CONFIG,
    source: OnlySource = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Only this state: queued, running, failed, ...")
    ] = None,
    since: Since = None,
    job: Annotated[
        str | None, typer.Option("--job", metavar="NAME", help="Only this job: its name, with or without its kind.")
    ] = None,
    limit: Limit = 50,
    *,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Go on until Ctrl-C. In a pipe: one line for each run that changes; with --json one object a line.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the latest runs; `runs show ID` shows all details of one. Exit 130: --follow was ended."""
    if context.invoked_subcommand is not None:
        return
    from collector.app import run_listing

    wanted = run_listing.Wanted(source, state, since, job)
    sys.exit((run_listing.follow if follow else run_listing.runs)(config, wanted, limit=limit, as_json=as_json))


@command(
    "Show all that is known of one run.", "runs show 5f0f1e9e-7c5d-4a55-a1d5-2f30c2f0e6a1", name="show", group=runs_app
)
def runs_show(
    run: Annotated[str, typer.Argument(metavar="ID", help="The run id, or the platform's id of the run.")],
    config: Config = DEFAULT_CONFIG,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="The source, if several sources have that id.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show all that is known of one run: times, error, datasets, its events and which of them are parked."""
    from collector.app import run_listing

    sys.exit(run_listing.one(config, run, source=source, as_json=as_json))


@command("Say why something is collected or not.", "explain transformation/load-pumps")
def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A run id, the platform's own id of a run, the number of an event, a job or a dataset."
        ),
    ],
    config: Config = DEFAULT_CONFIG,
    source: OnlySource = None,
    *,
    as_json: Json = False,
) -> None:
    """Explain why a run, a job or a dataset is collected or not, where each of its events is at each sink, and what happens
    next. Exit 0: explained, 1: the ledger knows nothing of that name.
    """
    from collector.app import explain as command

    sys.exit(command.explain(config, name, source=source, as_json=as_json))


Form = Literal["tree", "dot", "mermaid"]
_FORMS: tuple[Form, ...] = get_args(Form)


def _form(text: str) -> Form:
    """The parser of the option, as typer's own for choices puts pydantic's `Value error` before its message."""
    for form in _FORMS:
        if text == form:
            return form
    raise typer.BadParameter(f"{text!r} is not one of {', '.join(_FORMS)}")


@command("Show what something is made from.", "graph transformation/load-pumps --depth 4")
def graph(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A job or a dataset, or NAMESPACE NAME of a dataset.")],
    config: Config = DEFAULT_CONFIG,
    depth: Annotated[int, typer.Option("--depth", metavar="NUMBER", min=1, max=6, help="Steps up and down.")] = 3,
    *,
    form: Annotated[
        Form,
        typer.Option(
            "--format", metavar="<tree|dot|mermaid>", parser=_form, help="dot is for Graphviz, mermaid for Markdown."
        ),
    ] = "tree",
    as_json: Json = False,
) -> None:
    """Show what a job or dataset is made from and what is made from it, as the last successful runs say. Exit 0: shown, 1: the
    ledger knows nothing of that name, or several things.
    """
    from collector.app import graph as command

    sys.exit(command.graph(config, name, depth=depth, form="json" if as_json else form))


@command("Copy the ledger to PATH.", "backup /var/backups/lineage.db")
def backup(
    target: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write; a former backup is replaced.")],
    config: Config = DEFAULT_CONFIG,
    *,
    as_json: Json = False,
) -> None:
    """Copy the ledger at one moment to PATH, beside a running service or without one. The copy is checked before it
    replaces a former one. Exit 0: the backup is complete, 1: it failed and a former one is unchanged.
    """
    from collector.app import ledger_copy

    sys.exit(ledger_copy.backup(config, target, as_json=as_json))


@command(
    "Copy from a file to PostgreSQL, or back.",
    "ledger copy lineage.db postgresql://lineage@db-1/lineage --password-file db-password",
    name="copy",
    group=ledger_app,
)
def ledger_copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A file, or postgresql://user@host:5432/database.")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="The other kind: a new file, or a schema without a ledger.")
    ],
    *,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            metavar="FILE",
            envvar="LINEAGE_COLLECTOR__LEDGER__PASSWORD_FILE",
            help="Holds the password of the user in the address; or set LINEAGE_COLLECTOR__LEDGER__PASSWORD.",
        ),
    ] = None,
    schema: Annotated[
        str,
        typer.Option(
            "--schema",
            metavar="NAME",
            envvar="LINEAGE_COLLECTOR__LEDGER__SCHEMA",
            help="The schema in the database that holds only the ledger.",
        ),
    ] = "lineage",
    as_json: Json = False,
) -> None:
    """Copy a ledger from a file to PostgreSQL, or back, while no service works on either. Every row is read again and compared
    before TO counts. Exit 0: TO is a whole ledger, 1: it is as it was, 2: bad arguments. FROM stays as it is.
    """
    from collector.app import ledger_copy

    sys.exit(ledger_copy.copy(source, target, schema=schema, password_file=password_file, as_json=as_json))


@command("List what was left out, and why.", "skipped --limit 200")
def skipped(config: Config = DEFAULT_CONFIG, limit: Limit = 100, *, as_json: Json = False) -> None:
    """List all that was left out or not understood, with counts and causes."""
    from collector.app import listings

    sys.exit(listings.skipped(config, limit=limit, as_json=as_json))


@command("List parked events, with causes.", "parked list --json", name="list", group=parked_app)
def parked_list(config: Config = DEFAULT_CONFIG, limit: Limit = 100, *, as_json: Json = False) -> None:
    """List parked events with cause and attempts."""
    from collector.app import listings

    sys.exit(listings.parked(config, limit=limit, as_json=as_json))


@command(
    "Send the parked events of SINK again.", "parked retry marquez --run 5f0f1e9e-...", name="retry", group=parked_app
)
def parked_retry(
    sink: Sink,
    config: Config = DEFAULT_CONFIG,
    run_id: OnlyRun = None,
    cause: OnlyCause = None,
    *,
    as_json: Json = False,
) -> None:
    """Send the parked events of SINK again, but for those that a later event of their run has superseded."""
    from collector.app import parked_events
    from collector.ledger.parked import Choice

    sys.exit(parked_events.retry(config, sink, Choice(run_id, cause=cause), as_json=as_json))


@command("Delete the parked events of SINK.", "parked drop marquez --run 5f0f1e9e-...", name="drop", group=parked_app)
def parked_drop(
    sink: Sink,
    config: Config = DEFAULT_CONFIG,
    run_id: OnlyRun = None,
    event: Annotated[
        str | None, typer.Option("--event", metavar="NAME", help="Only this event, by its name in `parked list`: 12.3.")
    ] = None,
    cause: OnlyCause = None,
    *,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be dropped, and drop nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete the parked events of SINK. Lists them and asks first."""
    from collector.app import parked_events
    from collector.ledger.parked import Choice

    choice = Choice(run_id, event, cause=cause)
    sys.exit(parked_events.drop(config, sink, choice, yes=yes, dry_run=dry_run, as_json=as_json))


@command("Remove what left the configuration.", "forget old-marquez --dry-run")
def forget(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Name of the source or sink; source:NAME or sink:NAME if both have it."),
    ],
    config: Config = DEFAULT_CONFIG,
    *,
    drop_undelivered: Annotated[
        bool, typer.Option("--drop-undelivered", help="Remove it even if it has undelivered events, which are lost.")
    ] = False,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove all that the ledger holds of a source or sink that left the configuration, without waiting for the retention.
    Lists it and asks first.
    """
    from collector.app import forget as command

    how = {"drop_undelivered": drop_undelivered, "yes": yes, "dry_run": dry_run, "as_json": as_json}
    sys.exit(command.forget(config, name, **how))


@command("Compare runs with those of a Marquez, and mend.", "reconcile marquez --since 7d --mend")
def reconcile(
    sink: Sink,
    config: Config = DEFAULT_CONFIG,
    since: Since = None,
    *,
    mend: Annotated[
        bool, typer.Option("--mend", help="Send again what is safe to send; without it, only compare.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare each run that SINK, a Marquez, acknowledged with what it has: state, times, inputs and outputs. Exit 0: all equal
    (with --mend: or sent again), 1: runs differ or Marquez could not be asked, 2: bad arguments.
    """
    from collector.app import reconcile as command

    sys.exit(command.reconcile(config, sink, since=since, mend=mend, as_json=as_json))


@command("Fill a sink from the ledger, or the ledger from a platform.", "backfill marquez --since 7d --dry-run")
def backfill(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Name of a sink or a source; sink:NAME or source:NAME if both have it."),
    ],
    config: Config = DEFAULT_CONFIG,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="Only runs that ended (open ones: began) since: 2h, 7d, 2026-01-31."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Only runs that ended before: 2h, 2026-01-31.")
    ] = None,
    *,
    sink: Annotated[
        str | None,
        typer.Option(
            "--sink", metavar="SINK", help="With a source: only this sink gets these runs, the others never do."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be made and sent, and do nothing.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the backfill of NAME that is under way.")] = False,
    as_json: Json = False,
) -> None:
    """Send a sink again all that the ledger still holds, whether it had it before or not: for a backend that is new or was
    restored. Or read the past runs of a source from its platform and make events of those that the ledger does not know, for all
    sinks. With --sink only that sink gets these runs, and what the ledger still has of them is sent to it again, to fill a backend
    with runs that retention removed: `backfill plant-a --since 90d --sink marquez-b`. Exit 0: done, 1: not finished; it goes on
    when the service runs.
    """
    from collector.app import backfill as command

    if stop and (since or until or sink or dry_run):
        raise typer.BadParameter("--stop goes with none of --since, --until, --sink and --dry-run", param_hint="--stop")
    if stop:
        sys.exit(command.stop(config, name, as_json=as_json))
    options = command.Options(since, until, sink, dry_run, as_json)
    sys.exit(command.backfill(config, name, options))


def _pairs(params: list[str]) -> dict[str, str]:
    pairs = {}
    for param in params:
        key, separator, value = param.partition("=")
        if not key or not separator:
            raise typer.BadParameter(f"{param!r} is not of the form key=value", param_hint="--param")
        pairs[key] = value
    return pairs
