"""SQL text as sqlglot's tree (Spark dialect), in bounded time."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.dialects.spark import Spark
from sqlglot.errors import ParseError, SqlglotError, TokenError
from sqlglot.parsers.spark import SparkParser
from sqlglot.tokenizer_core import Token, TokenType

from collector import names

# It repeats the SQL in its warnings, which may hold secrets.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL + 1)

_LOOK_AT_CLOCK = 256
"""Steps between two looks at the clock."""
TEXT = "text"
"""In a node's meta: start and end of its text in the query, for whole expressions."""

_WORD = re.compile(r"[^\W\d]\w*")
_NOT_WORDS = frozenset({TokenType.STRING, TokenType.NUMBER, TokenType.IDENTIFIER, TokenType.VAR, TokenType.RAW_STRING})
_BEFORE_COLUMN = frozenset({TokenType.SELECT, TokenType.COMMA})
_BEHIND_COLUMN = frozenset({TokenType.FROM, TokenType.COMMA, TokenType.ALIAS})
_VALUES = frozenset(
    {
        *("NULL", "TRUE", "FALSE", "ALL", "DISTINCT"),
        *("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "CURRENT_USER", "SESSION_USER", "LOCALTIMESTAMP"),
    }
)
"""Words that are something else than a name where a column may stand."""
_STUMBLES = (AttributeError, IndexError, KeyError, TypeError, UnicodeError, ValueError)
"""What sqlglot raises besides its own errors, over some malformed texts."""


class TooMuch(Exception):
    """A query asks for more work than is allowed."""


class Unparsed(Exception):
    """The text is not a query that can be parsed; the message has why and where, without values from the text."""


@dataclass(slots=True)
class Budget:
    """Steps, and seconds of this thread's processor time, that may still be spent on one query. The time counts from the
    first look at the clock, which most queries never need.
    """

    steps: int
    seconds: float
    stopped: Callable[[], bool] = lambda: False
    _until: float | None = None
    _look_at: int = field(init=False)

    def __post_init__(self) -> None:
        self._look_at = max(0, self.steps - _LOOK_AT_CLOCK)

    def spend(self, steps: int = 1) -> None:
        """Raises `TooMuch` when nothing is left."""
        self.steps -= steps
        if self.steps < self._look_at:
            self._look()

    def _look(self) -> None:
        if self.steps < 0:
            raise TooMuch("takes more steps than are allowed")
        self._look_at = max(0, self.steps - _LOOK_AT_CLOCK)
        now = time.thread_time()
        self._until = self._until or now + self.seconds
        if now > self._until:
            raise TooMuch(f"takes more than {self.seconds:.0f} s of processor time")
        if self.stopped():
            raise TooMuch("takes longer than this program still runs")


class _Parser(SparkParser):
    """Counts its steps, so that no text can keep it busy, and notes where expressions begin and end."""

    def __init__(self, dialect: Spark, budget: Budget) -> None:
        super().__init__(dialect=dialect)
        self._budget = budget

    def _advance(self, times: int = 1) -> None:
        self._budget.spend()
        super()._advance(times)

    def _parse_expression(self) -> exp.Expr | None:
        start = self._curr.start
        found = super()._parse_expression()
        if found is not None:
            found.meta[TEXT] = (start, self._prev.end + 1)
        return found


def parse(text: str, budget: Budget) -> exp.Query:
    """The one query that the text holds. Raises `Unparsed`; comments are to be taken out before."""
    try:
        dialect = Spark()
        trees = _Parser(dialect, budget).parse(_with_names(dialect.tokenize(text)), text)
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        raise Unparsed(f"cannot be parsed{_place(first.get('line'), first.get('col'))}: {_message(first)}") from None
    except TokenError as error:
        raise Unparsed(f"cannot be parsed{_line_of(text, error.start)}: a quote is never closed") from None
    except RecursionError:
        raise Unparsed("is nested too deeply to be parsed") from None
    except TooMuch as error:
        raise Unparsed(f"{error} to be parsed") from None
    except (SqlglotError, *_STUMBLES) as error:
        raise Unparsed(f"cannot be parsed: {type(error).__name__} in sqlglot") from None
    return _only(trees)


def _with_names(tokens: list[Token]) -> list[Token]:
    """Words of SQL beside a dot (`sap.drop`) or alone between commas are names to Spark, but not to sqlglot."""
    for left, token, right in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if left.token_type in _BEFORE_COLUMN and right.token_type in _BEHIND_COLUMN and _may_name(token):
            token.token_type = TokenType.VAR
    for word in _beside_dots(tokens):
        if _is_word(word):
            word.token_type = TokenType.VAR
    return tokens


def _beside_dots(tokens: list[Token]) -> Iterator[Token]:
    for at, token in enumerate(tokens):
        if token.token_type is TokenType.DOT:
            after, before = tokens[at + 1 : at + 2], tokens[max(0, at - 1) : at]
            is_number = bool(after) and after[0].token_type is TokenType.NUMBER
            yield from after if is_number else (*before, *after)  # `then .5` has no name


def _is_word(token: Token) -> bool:
    return token.token_type not in _NOT_WORDS and _WORD.fullmatch(token.text) is not None


def _may_name(token: Token) -> bool:
    return _is_word(token) and token.text.upper() not in _VALUES


def _only(trees: list[exp.Expr | None]) -> exp.Query:
    statements = [tree for tree in trees if tree is not None]
    if not statements:
        raise Unparsed("holds no statement")
    if len(statements) > 1:
        raise Unparsed(f"holds {len(statements)} statements instead of one query")
    if not isinstance(statements[0], exp.Query | exp.Values):
        raise Unparsed(f"is a statement of the kind {statements[0].key.upper()}, not a query")
    return statements[0]  # type: ignore[return-value] # VALUES is as good as a query


def _message(error: dict[str, object]) -> str:
    """The message of sqlglot, without the part that repeats the text."""
    return names.clean(str(error.get("description") or "unknown syntax").partition(" but got")[0])[:120]


def _place(line: object, column: object) -> str:
    return f" at line {line}, column {column}" if line else ""


def place_at(text: str, start: int) -> str:
    """As in ` at line 3, column 7`."""
    return _place(text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))


def _line_of(text: str, start: int | None) -> str:
    return f" from line {text.count(chr(10), 0, start) + 1} on" if start else ""


def place_of(node: exp.Expr) -> str:
    """As in ` (line 3)`, if the node has its line."""
    line = node.meta.get("line")
    return f" (line {line})" if line else ""
