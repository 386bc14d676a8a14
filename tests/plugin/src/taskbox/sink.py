"""Posts each event to the mailbox of a team."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from collector.model import Outgoing
from config.base import Model, Url
from exporters.sinks.base import Context, Delivered, Finding, Outcome, Park, SinkBase
from exporters.sinks.http import ask, each, trouble

api_version = 1


class Options(Model):
    url: Url


class Mailbox(SinkBase):
    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(context)
        self._url = options.url

    def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        return each(batch, self._posted)

    async def check(self) -> list[Finding]:
        answer = await ask(self.context.http, "GET", self._url)
        return [Finding("mailbox", ok=answer.status == 200, detail=answer.cause, remedy="look at options.url")]

    async def _posted(self, event: Outgoing) -> Outcome:
        answer = await ask(self.context.http, "POST", self._url, content=event.body)
        return Delivered() if answer.status == 200 else trouble(answer) or Park(answer.cause)


def create(settings: Any, context: Context) -> Mailbox:
    return Mailbox(settings.options, context)
