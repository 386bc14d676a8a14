"""What is found out about a run once, when it ended: stages, inputs, outputs, error text."""

from collections.abc import Sequence
from dataclasses import replace

from collector.errors import NotFound
from collector.model import Enrichment, Facts, Run, RunState
from collector.platforms.answers import Forbidden
from collector.platforms.dataprep import datasets, groups, observations, states
from collector.platforms.dataprep.api import Api
from collector.platforms.dataprep.datasets import Found
from collector.platforms.dataprep.definitions import Definitions
from collector.platforms.dataprep.levels import Deployment, Optional
from collector.platforms.dataprep.rows import Group, StageRow
from collector.platforms.unread_times import UnreadTimes


class Enricher:
    """Three requests a run: the group with its stages, its inputs, its outputs. What is refused is a problem reported with
    the run; failures are raised, to be tried again.
    """

    def __init__(
        self, api: Api, deployment: Deployment, definitions: Definitions, namespace: str, unread: UnreadTimes
    ) -> None:
        self._api, self._deployment, self._definitions, self._namespace = api, deployment, definitions, namespace
        self._unread = unread

    async def enrich(self, run: Run) -> Enrichment:
        if "/" in run.key:
            return Enrichment()
        try:
            group = await groups.read(self._api, self._deployment, run.key)
        except (NotFound, Forbidden) as error:
            return Enrichment(Facts(problems=(f"the run ended, but can no longer be read: {error}",)))
        self._unread.note(f"job group {group.key}", group.all_unread)
        stages = states.first_life(group.stages or (), group.updated_at)
        inputs = await self._inputs(group)
        outputs = await self._outputs(group, run.state)
        return Enrichment(
            facts=replace(
                observations.facts(group),
                inputs=inputs.datasets,
                outputs=outputs.datasets,
                error=states.why_failed(group.error, stages) if run.state is RunState.FAILED else None,
                error_language=observations.ERROR_LANGUAGE if run.state is RunState.FAILED else None,
                problems=(*inputs.problems, *outputs.problems, *partly_written(stages, run.state)),
            ),
            started_at=states.beginning(stages),
            ended_at=observations.end(group, self._api.latest(run.seen_at)),
        )

    async def _inputs(self, group: Group) -> Found:
        sources = await self._definitions.sources(group.recipe, group.ranfrom) if group.recipe else ()
        body, refused = await self._deployment.ask(Optional.INPUTS, "jobGroups", group.key, "inputs")
        if body is not None:
            return datasets.inputs(body, sources, self._namespace)
        if not sources:
            return Found(problems=refused or ("this deployment does not report the inputs of the run",))
        found = datasets.defined_inputs(sources, self._namespace)
        return replace(found, problems=(*found.problems, *refused))

    async def _outputs(self, group: Group, state: RunState) -> Found:
        """What the run wrote; of one that did not succeed, what it was to write."""
        definition = await self._definitions.output(group.recipe, group.ranfrom) if group.recipe else None
        body, refused = await self._deployment.ask(Optional.OUTPUTS, "jobGroups", group.key, "outputs")
        if isinstance(body, dict):
            found = datasets.outputs(body, definition, self._namespace)
            return (
                found
                if state is RunState.SUCCEEDED
                else datasets.planned_outputs(found, body, definition, self._namespace)
            )
        if definition is None:
            return Found(problems=refused or ("this deployment does not report the outputs of the run",))
        found = datasets.defined_outputs(definition, self._namespace)
        return replace(found, problems=(*found.problems, *refused))


def partly_written(stages: Sequence[StageRow], state: RunState) -> tuple[str, ...]:
    """Where only some of the writing stages completed: a group that failed in publishing has written its files all the same."""
    if state is RunState.SUCCEEDED:
        return ()
    writers = _of_kind("filewriter", stages) or _of_kind("wrangle", stages)
    publishers = _of_kind("publish", stages)
    return tuple(
        f"{sum(map(_complete, rows))} of {len(rows)} {rows[0].kind} stages completed; which outputs they wrote is not known"
        for rows in (writers, publishers)
        if 0 < sum(map(_complete, rows)) < len(rows)
    )


def _of_kind(kind: str, stages: Sequence[StageRow]) -> list[StageRow]:
    return [row for row in stages if row.kind == kind]


def _complete(row: StageRow) -> bool:
    return states.state_of(row.status) is RunState.SUCCEEDED
