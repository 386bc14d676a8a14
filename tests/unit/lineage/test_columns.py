import orjson

from collector.lineage.datasets import shown
from collector.model import Dataset, Field


def test_a_column_always_has_a_type_which_marquez_needs_to_know_it_again() -> None:
    dataset = Dataset("cdf://h/p", "assets", fields=(Field("a"),))
    [facet] = orjson.loads(orjson.dumps(shown([dataset], "output", ended=False)))
    assert facet["facets"]["schema"]["fields"] == [{"name": "a", "type": "unknown", "ordinal_position": 1}]
