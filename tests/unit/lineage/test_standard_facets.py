"""The schema URLs in events are those of the classes in openlineage-python."""

from inspect import getmembers, isclass
from typing import Any

from openlineage.client import facet_v2
from openlineage.client.event_v2 import RunEvent
from openlineage.client.facet_v2 import lifecycle_state_change_dataset

from collector.lineage.standard_facets import FACETS, LIFECYCLE_CHANGES, RUN_EVENT


def test_schemas_and_words_are_the_librarys() -> None:
    modules = [getattr(facet_v2, name) for name in facet_v2.__all__ if not isclass(getattr(facet_v2, name))]
    classes: dict[str, Any] = {name: of for module in modules for name, of in getmembers(module, isclass)}
    assert {name: classes[name]._get_schema() for name in FACETS} == FACETS
    assert RunEvent._get_schema() == RUN_EVENT
    assert {change.value for change in lifecycle_state_change_dataset.LifecycleStateChange} == LIFECYCLE_CHANGES
