"""Runs of Taskbox: `GET /tasks` lists all of them."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from collector.errors import BadAnswer
from collector.model import Job, Observation, Poll, Run, RunState
from collector.platforms.answers import asking, moment, parsed, refusal
from collector.platforms.base import Context, Finding, PlatformBase, tried
from config.base import Model, Url
from config.secret import SecretText

api_version = 1


class Options(Model):
    url: Url
    token: SecretText


class Taskbox(PlatformBase):
    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(context)
        self._url, self._token = f"{options.url}/tasks", options.token

    async def poll(self, tracked: Sequence[Run], cursor: str | None) -> AsyncIterator[Poll]:
        found = {task["id"]: self._observation(task) for task in await self._tasks()}
        yield Poll(tuple(found.values()), missing=tuple(run.key for run in tracked if run.key not in found))

    async def check(self) -> list[Finding]:
        return [
            await tried("tasks", self._tasks, "they can be listed", lambda _: "look at options.url and options.token")
        ]

    async def _tasks(self) -> list[dict[str, str]]:
        with asking(f"GET {self._url}"):
            answer = await self.context.http.request("GET", self._url, headers={"X-Token": self._token.get()})
        said = f"GET {self._url} answered {answer.status_code}"
        if (error := refusal(answer.status_code, said, unauthorized="the token is not valid", after=None)) is not None:
            raise error
        tasks: Any = parsed(answer.content)
        if not isinstance(tasks, list) or not all(isinstance(task, dict) and "id" in task for task in tasks):
            raise BadAnswer(f"{said} and no list of tasks")
        return tasks

    def _observation(self, task: dict[str, str]) -> Observation:
        job = Job(task["job"], self.context.namespace, f"task/{task['job']}", kind="TASK", integration="TASKBOX")
        return Observation(
            key=task["id"],
            run_id=uuid5(NAMESPACE_URL, f"{self.context.namespace}/{task['id']}"),
            job=job,
            state=RunState(task["state"]),
            raw_state=task["state"],
            seen_at=self.context.clock.now(),
            started_at=moment(task.get("started")),
            ended_at=moment(task.get("ended")),
            settled=True,
        )


def create(settings: Any, context: Context) -> Taskbox:
    return Taskbox(settings.options, context)
