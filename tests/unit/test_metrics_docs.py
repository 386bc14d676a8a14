"""The page about metrics says what the code shows and what the chart reads."""

import inspect
import re

from exporters.metrics import families, jobs, snapshot
from exporters.metrics.snapshot import JOBS_AT_MOST
from tests.metric_families import CHART, PAGE, catalogue, fresh, readers

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_fresh() -> None:
    assert fresh(TEXT) == TEXT, "run python -m tests.metric_families"


def test_every_family_has_a_group_a_help_and_a_name_that_prometheus_likes() -> None:
    known = catalogue()
    names = [family.name for family in known]
    assert len(names) == len(set(names)), "in one group each"
    assert len(names) >= 40
    for family in known:
        assert family.text.endswith("."), family.name
        assert set(family.values) <= {"state", "outcome", "result", "code_class", "kind", "type", "bounded", "cause"}, (
            family.name
        )
        assert (family.type == "counter") is family.name.endswith("_total")


def test_every_family_of_ours_is_in_a_group() -> None:
    written = "".join(inspect.getsource(module) for module in (families, jobs, snapshot))
    in_the_code = set(re.findall(r'"(lineage_[a-z_]+)"', written))
    assert in_the_code == {family.name.removesuffix("_total") for family in catalogue()}


def test_the_chart_reads_nothing_that_is_not_there() -> None:
    assert CHART.is_dir()
    assert set(readers()) <= {family.name for family in catalogue()}


def test_the_page_names_the_price_of_a_job() -> None:
    per_job = [family for family in catalogue() if "job" in family.labels]
    series = sum(len(family.values.get("outcome", ("one",))) for family in per_job)
    assert f"A job has {series} series, and {JOBS_AT_MOST:,} jobs have them" in TEXT
