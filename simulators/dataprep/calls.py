"""One request as the endpoints see it, and what they answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.dataprep.access import Token
from simulators.dataprep.answers import Refused, deleted, not_found
from simulators.dataprep.read_parameters import Embed, check_embed, is_true, parse_embed
from simulators.dataprep.shapes import MANY, Moment, associations
from simulators.dataprep.switches import Feature
from simulators.dataprep.workspace import Output, Recipe, Run


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is JSON; None with 204 and 304 means no body."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """`body` is the parsed JSON of the request, None without one. `query` gives the first value of each parameter."""

    moment: Moment
    token: Token
    features: frozenset[Feature]
    path: Mapping[str, str]
    query: Mapping[str, str]
    repeated: Callable[[str], list[str]]
    headers: Mapping[str, str]
    body: Any = None
    quota: dict[str, str] = field(default_factory=dict)

    def number(self) -> int:
        if not self.path["id"].isdigit():
            raise Refused(400, f'"id" must be a number, not {self.path["id"]!r}')
        return int(self.path["id"])

    def embed(self, resource: str) -> dict[str, Embed]:
        """The parsed embed, checked against what the resource has."""
        tree = parse_embed(self.query.get("embed", ""))
        check_embed(resource, tree, associations(self.moment.switches), MANY)
        return tree

    def run(self) -> Run:
        """The run of the path. Raises Refused when it is missing, hidden or deleted."""
        moment, number = self.moment, self.number()
        run = moment.workspace.runs.get(number)
        if run is None or not moment.exists(run):
            raise not_found(moment.switches, "Job group", number)
        if run.hidden:
            raise Refused(moment.switches.hidden_status, f"You may not see job group {number}")
        if run.is_deleted(moment.seen_at(run)) and not is_true(self.query.get("includeDeleted")):
            raise deleted(moment.switches, "Job group", number)
        return run

    def recipe(self) -> Recipe:
        recipe = self.moment.workspace.recipes.get(self.number())
        if recipe is None:
            raise not_found(self.moment.switches, "Recipe", self.number())
        return recipe

    def output(self) -> Output:
        output = self.moment.workspace.outputs.get(self.number())
        if output is None:
            raise not_found(self.moment.switches, "Output object", self.number())
        if output.deleted and not is_true(self.query.get("includeDeleted")):
            raise deleted(self.moment.switches, "Output object", self.number())
        return output

    def json(self) -> dict[str, Any]:
        if not isinstance(self.body, dict):
            raise Refused(400, "The body must be a JSON object")
        return self.body


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`name` is the vendor's operation id; a `quota` is counted under it."""

    method: str
    path: str
    feature: Feature
    name: str
    answer: Callable[[Call], Answer]
    quota: bool = False
