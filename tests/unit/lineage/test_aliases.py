"""Datasets under other names: the same table is one node whichever job reports it."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings

from collector.lineage.aliases import Alias, Aliases
from collector.lineage.events import EventMaker
from collector.model import ColumnEdge, Dataset, Run, Transition
from tests import openlineage
from tests.unit.lineage import models
from tests.unit.lineage.models import ASSETS, COMPLETE, PUMPS, SPACE, run

ERP = "postgres://erp:5432"
SAP = Alias(SPACE, "raw/sap/*", ERP, "erp.public.*")


def name(dataset: Dataset) -> tuple[str, str]:
    return dataset.namespace, dataset.name


def applied(*rules: Alias, to: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    return tuple(Aliases(rules).applied(to))


@pytest.mark.parametrize(
    ("rule", "found", "named"),
    [
        (SAP, (SPACE, "raw/sap/pumps"), (ERP, "erp.public.pumps")),
        (SAP, (SPACE, "raw/sap/"), (ERP, "erp.public.")),
        (SAP, (SPACE, "raw/sap/a.b/c"), (ERP, "erp.public.a.b/c")),
        (SAP, (SPACE, "raw/other/pumps"), None),
        (SAP, ("cdf://elsewhere/p", "raw/sap/pumps"), None),
        (Alias("*", "raw/*/*", None, "lake.*.*"), (SPACE, "raw/a/b"), (SPACE, "lake.a.b")),
        (Alias("cdf://*/*", "raw/x", "lake://*.*", None), ("cdf://h/p", "raw/x"), ("lake://h.p", "raw/x")),
        (Alias("*", "raw/*/*", None, "all"), (SPACE, "raw/a/b"), (SPACE, "all")),
        (Alias("*", "in/*.csv", None, "in.*"), ("gs://b", "in/*.csv"), ("gs://b", "in.*")),
        (Alias("*", "raw/a.b", None, "x"), (SPACE, "raw/a-b"), None),
        (Alias("*", "raw*", None, "*"), (SPACE, "raw"), None),
        (Alias("*", "*", None, "x" * 300), (SPACE, "y"), (SPACE, "x" * 246 + "~")),
    ],
)
def test_a_star_is_put_where_its_like_stands(
    rule: Alias, found: tuple[str, str], named: tuple[str, str] | None
) -> None:
    new = rule.of(found)
    assert new == named or (
        new is not None and named is not None and new[1].startswith(named[1]) and len(new[1]) == 255
    )


def test_the_old_name_stays_as_a_symlink() -> None:
    [found] = applied(SAP, to=(replace(PUMPS, symlinks=((ERP, "erp.public.pumps", "TABLE"), ("x", "y", "LOCATION"))),))
    assert name(found) == (ERP, "erp.public.pumps")
    assert found.symlinks == ((SPACE, "raw/sap/pumps", "TABLE"), ("x", "y", "LOCATION"))
    assert found.uri is None, "the address was that of the old namespace"


def test_the_first_alias_that_fits_counts() -> None:
    [found] = applied(Alias("*", "raw/sap/pumps", None, "first"), SAP, to=(PUMPS,))
    assert name(found) == (SPACE, "first")
    assert found.uri == PUMPS.uri


def test_column_lineage_follows_its_inputs() -> None:
    [found] = applied(SAP, to=(ASSETS,))
    assert name(found) == name(ASSETS)
    assert {(edge.namespace, edge.name) for edge in found.columns} == {(ERP, "erp.public.pumps")}


def test_datasets_that_meet_in_one_name_are_one() -> None:
    both = (Dataset(SPACE, "raw/a", rows=1, files=2), Dataset(SPACE, "raw/b", rows=2, fields=PUMPS.fields))
    [found] = applied(Alias("*", "raw/*", None, "raw"), to=both)
    assert (found.rows, found.files) == (3, None)
    assert found.fields == PUMPS.fields
    assert [link[1] for link in found.symlinks] == ["raw/a", "raw/b"]


def test_without_aliases_nothing_is_touched() -> None:
    both = (PUMPS, ASSETS)
    assert Aliases().applied(both) is both
    assert applied(SAP, to=(ASSETS,))[0].symlinks == ASSETS.symlinks


def test_a_chain_across_platforms_meets() -> None:
    """What one platform writes and another reads is one node, for both producers."""
    maker = EventMaker("plant", aliases=Aliases((Alias("dataprep://*", "tables/postgres/*", ERP, "erp.*"), SAP)))
    written = replace(ASSETS, namespace="dataprep://h/1", name="tables/postgres/public.pumps", columns=(), symlinks=())
    first = orjson.loads(maker.event(run(facts=replace(models.FACTS, inputs=(), outputs=(written,))), COMPLETE))
    second = orjson.loads(maker.event(run(), COMPLETE))
    output, read = first["outputs"][0], second["inputs"][0]
    assert (output["namespace"], output["name"]) == (read["namespace"], read["name"])
    assert openlineage.faults(first) == openlineage.faults(second) == []


@settings(deadline=None)
@given(models.runs())
def test_whatever_is_renamed_events_stay_valid(given_: tuple[Run, Transition]) -> None:
    maker = EventMaker("plant", aliases=Aliases((Alias("*", "raw/*", "lake://x", "*"), Alias("*", "*a*", None, "*"))))
    assert openlineage.faults(maker.event(*given_)) == []


def test_edges_that_meet_are_one() -> None:
    edges = (ColumnEdge("x", SPACE, "raw/a", "id"), ColumnEdge("x", SPACE, "raw/b", "id"))
    [found] = applied(Alias("*", "raw/*", None, "raw"), to=(replace(ASSETS, columns=edges),))
    assert found.columns == (ColumnEdge("x", SPACE, "raw", "id"),)
