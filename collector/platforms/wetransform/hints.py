"""The webhook `file:ready-for-download`: checked, read, and matched to runs that may be meant. It is never believed."""

from dataclasses import dataclass

from collector.errors import BadAnswer
from collector.model import Run
from collector.platforms.answers import kind_of_body, parsed, text

EVENT = "file:ready-for-download"


@dataclass(frozen=True, slots=True)
class Hint:
    """All that the vendor sends: for whom and in which target format a file is ready. No run, no time."""

    customers: frozenset[str]
    """The customer's internal id and e-mail, if sent, in the letters of `casefold`."""
    template: str


def read_hint(body: bytes) -> Hint | None:
    """None for an event of another kind. Raises `BadAnswer` for a body that is no event."""
    data = parsed(body)
    if not isinstance(data, dict):
        raise BadAnswer(f"webhook: the body is {kind_of_body(body)} in place of a JSON object")
    if text(data.get("event")) is None:
        raise BadAnswer("webhook: the body names no event")
    if data["event"] != EVENT:
        return None
    template = _word(data, "template")
    if template is None:
        raise BadAnswer("webhook: the event names no template, so it could be about any run")
    named = (_word(data, "customer_id"), _word(data, "customer_email"))
    return Hint(frozenset(word.casefold() for word in named if word), template)


def may_mean(hint: Hint, run: Run) -> bool:
    """Whether the hint may be about this open run: same target format, and not another customer's."""
    customer, template = run.handle.get("customer"), run.facts.ids.get("template_handle")
    fits_customer = customer is None or not hint.customers or customer.casefold() in hint.customers
    return fits_customer and template in {None, hint.template}


def _word(data: dict[str, object], key: str) -> str | None:
    """Ids may come as numbers."""
    value = data.get(key)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(data.get(key))
