"""Every alert has its page, and what the pages have people type works."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.model import RunState
from collector.testing.faults import Fault, FaultKind
from config.settings import Settings
from simulators.cdf import Scenario
from tests import metric_names
from tests.deployment import CDF, WETRANSFORM, Deployment
from tests.rules.alert_rules import MINIMAL, RELEASE, page_of, settings
from tests.rules.runbooks import Page, alert_pages, commands, pages
from tests.servers.alertmanager import StartAlertmanager
from tests.servers.helm import Helm
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.processes import unavailable
from tests.servers.prometheus import Promtool
from tests.unit.exporters.test_run_pages import page as shown
from tests.unit.exporters.test_run_pages import served

ROOT = Path(__file__).parents[2]
SECTIONS = ["Meaning", "Impact", "Check", "Fix", "Silence"]
REFUSES = Fault(FaultKind.STATUS, "POST /api/v1/lineage", times=-1, status=422, body={"errors": ["no"]})
POSTGRES = MINIMAL.with_name("postgres-values.yaml")
WORKLOADS = {"StatefulSet", "Deployment"}
READING = {"df", "ls", "date"}
"""What pages run in the pod beside our own program; it only looks."""

every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
every_alert = pytest.mark.parametrize("page", alert_pages(), ids=lambda page: page.name)


def test_every_alert_has_a_page_and_is_listed() -> None:
    alerts = settings()["rules"]
    assert {page.name for page in alert_pages()} == set(alerts)
    [readme] = [page for page in pages() if page.name == "README"]
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (on|off) \| (\w+) \|$", readme.text, re.MULTILINE)
    expected = [(name, name, "on" if alert["enabled"] else "off", alert["severity"]) for name, alert in alerts.items()]
    assert listed == expected


@every_alert
def test_a_page_is_complete(page: Page) -> None:
    assert page.headings == [page.name, *SECTIONS]
    assert "```" in page.section("Check"), "how to look"
    assert page.name in page.section("Silence") or "Do not" in page.section("Silence")
    off = not settings()["rules"][page.name]["enabled"]
    assert ("Off by default" in page.text) == off
    assert all(len(line) <= 140 for line in page.text.splitlines())


LABELS = {
    "{{ $labels.source | urlquery }}": "SOURCE",
    "{{ $labels.sink | urlquery }}": "SINK",
    "{{ or $labels.exported_job $labels.job | urlquery }}": "JOB",
}


def named_page(alert: str) -> str:
    """With the words of the runbooks in place of the alert's labels."""
    path = page_of(alert)
    for label, word in LABELS.items():
        path = path.replace(label, word)
    return path


@every_alert
def test_a_page_names_the_page_of_the_collector_to_which_its_alert_leads(page: Page) -> None:
    assert f"`{named_page(page.name)}`" in page.section("Check")


async def test_pages_to_which_alerts_lead_are_there(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        for path in sorted({named_page(page.name) for page in alert_pages()}):
            known = path.replace("SOURCE", "source").replace("SINK", "marquez")
            assert await shown(client, known.replace("JOB", "transformation%2F1"))


async def test_a_run_and_its_cause_are_two_clicks_from_an_alert(tmp_path: Path) -> None:
    """The first leads to the page of the alert, which has the cause and the link to the run."""
    async with served(tmp_path) as client:
        for alert, cause in (("LineageEventsParked", "422: "), ("LineageRunFailing", "no rows ")):
            path = named_page(alert).replace("SOURCE", "source").replace("SINK", "marquez").replace("job=JOB&", "")
            first = await shown(client, path)
            assert cause in first
            [run] = {*re.findall(r'href="(/runs/[0-9a-f-]{36})"', first)}
            assert cause in await shown(client, run)


@every_page
def test_links_lead_somewhere(page: Page) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.text):
        assert (page.file.parent / target).exists(), target


@every_page
def test_what_is_named_exists(page: Page) -> None:
    """Words such as `sink.interrupted` are events of the log, keys of the configuration or values of the chart."""
    source = "\n".join(file.read_text() for part in ("collector", "exporters") for file in (ROOT / part).rglob("*.py"))
    values = yaml.safe_load((MINIMAL.parents[1] / "values.yaml").read_text())
    for word in re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`", page.prose):
        known = f'"{word}"' in source or _is_setting(word.removeprefix("config.")) or _is_value(values, word)
        assert known or word.endswith((".md", ".db")), word


@every_page
def test_queries_can_be_asked(page: Page, promtool: Promtool, tmp_path: Path) -> None:
    queries = page.lines("promql")
    rules = [{"record": f"a:b{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert [wrong for query in queries for wrong in metric_names.unknown(query)] == []


@pytest.mark.crash
async def test_our_commands_work_beside_a_running_service(tmp_path: Path) -> None:
    lines = set(commands("lineage-collector")) | {_inside(line) for line in commands("kubectl") if " -- " in line}
    states = {state for line in lines for state in re.findall(r"--state (\w+)", line)}
    assert states <= set(RunState)
    ours = {re.sub(r"--state \w+", "--state failed", line) for line in lines if line.startswith("lineage-collector ")}
    writing = {line for line in ours if re.search(r" (retry|drop|trigger|watch) ", line)}
    async with Deployment(tmp_path) as deployment:
        jobs = list(deployment.cdf.transformations)
        deployment.marquez.faults.plan(REFUSES)
        for job in jobs[:3]:
            deployment.cdf.start_run(job, Scenario(0.1, 0.2))
        await deployment.start()
        await deployment.until_parked(6)
        deployment.marquez.faults.clear()
        for line in sorted(ours - writing):
            await _works(deployment, line, SOURCE=CDF)
        first, second, _ = sorted({event["run"]["runId"] for event in await _parked(deployment)})
        await _works(deployment, "lineage-collector parked drop SINK --run RUN --yes", SINK="marquez", RUN=first)
        await _works(deployment, "lineage-collector parked retry SINK --run RUN", SINK="marquez", RUN=second)
        await _works(deployment, "lineage-collector parked retry SINK", SINK="marquez")
        await deployment.until_parked(0)
        deployment.marquez.faults.plan(REFUSES)
        await _works(deployment, "lineage-collector trigger SOURCE JOB", SOURCE=CDF, JOB=str(jobs[0]))
        await deployment.until_parked(2)
        await _works(deployment, "lineage-collector parked drop SINK --dry-run", SINK="marquez")
        await deployment.until_parked(2)
        await _works(deployment, "lineage-collector parked drop SINK --yes", SINK="marquez")
        await deployment.until_parked(0)
        deployment.marquez.faults.clear()
        run = deployment.wetransform.start(deployment.wetransform.transformations[0])
        await _works(deployment, "lineage-collector watch SOURCE RUN", SOURCE=WETRANSFORM, RUN=run.key)
        deployment.terminate()
        assert await deployment.ended() == 0
    assert writing == {
        *(f"lineage-collector parked retry SINK{run}" for run in ("", " --run RUN")),
        *(f"lineage-collector parked drop SINK{which}" for which in (" --dry-run", " --yes", " --run RUN --yes")),
        "lineage-collector trigger SOURCE JOB",
        "lineage-collector watch SOURCE RUN",
    }, "each was tried above"


@pytest.mark.parametrize(("values", "workload"), [(MINIMAL, "statefulset"), (POSTGRES, "deployment")])
def test_commands_for_kubernetes_name_what_the_chart_makes(helm: Helm, values: Path, workload: str) -> None:
    """Whether the ledger is a file or in PostgreSQL. What only one of them has is named with its kind."""
    objects = helm.objects(values, release=RELEASE)
    made = {(each["kind"].lower(), each["metadata"]["name"]) for each in objects}
    assert (workload, RELEASE) in made
    other = {"statefulset", "deployment"} - {workload}
    for line in commands("kubectl"):
        command, _, inside = line.partition(" -- ")
        assert "-n lineage " in command or "--all-namespaces" in command, line
        for kind, name in re.findall(r"\b(statefulset|deployment|pod|service)[/ ]([a-z][\w-]*)", command):
            assert kind in other or (kind, name) in made, line
        for selector in re.findall(r"-l (\S+)", command):
            _selects(selector, objects, line)
        assert not inside or inside.split()[0] in {*READING, "lineage-collector"}, line


def _selects(selector: str, objects: Sequence[dict[str, Any]], line: str) -> None:
    """The workload and its pods, and where it is about logs, no other pods."""
    wanted = dict(part.split("=") for part in selector.split(","))
    templates = {each["kind"]: each["spec"]["template"] for each in objects if each["kind"] in {*WORKLOADS, "Job"}}
    labels = {kind: template["metadata"]["labels"].items() for kind, template in templates.items()}
    fitting = {kind for kind, those in labels.items() if wanted.items() <= those}
    assert fitting & WORKLOADS, line
    assert " logs " not in line or fitting <= WORKLOADS, line


@pytest.mark.parametrize("line", commands("kubectl"))
def test_kubectl_understands(line: str, tmp_path: Path) -> None:
    """Its verbs and options; it finds no cluster here."""
    if (kubectl := shutil.which("kubectl")) is None:
        unavailable("no kubectl command")
    nowhere = [kubectl, f"--server=http://{LOOPBACK}:{free_port()}", "--request-timeout=2s"]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(tmp_path / "none")}
    words = [*nowhere, *shlex.split(line)[1:]]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=tmp_path
    )
    assert "was refused" in done.stderr or "connection refused" in done.stderr, done.stderr


def test_silences_can_be_made(start_alertmanager: StartAlertmanager) -> None:
    alertmanager = start_alertmanager()
    alerts = set()
    for line in commands("amtool"):
        done = alertmanager.amtool(*shlex.split(line)[1:])
        assert done.returncode == 0, f"{line}: {done.stderr}"
        alerts.add(re.findall(r"alertname=(\w+)", line)[0])
    assert alerts <= set(settings()["rules"])
    listed = alertmanager.amtool("silence", "query", "--output=json").stdout
    assert listed.count('"state":"active"') + listed.count('"state": "active"') == len(commands("amtool"))


@every_page
def test_settings_are_taken(page: Page, helm: Helm, start_alertmanager: StartAlertmanager, tmp_path: Path) -> None:
    for block in page.blocks("yaml"):
        if block.startswith("# alertmanager.yml"):
            file = tmp_path / "alertmanager.yml"
            file.write_text(block + "route: {receiver: people}\nreceivers: [{name: people}]\n")
            done = start_alertmanager().amtool("check-config", str(file))
            assert done.returncode == 0, done.stdout + done.stderr
            assert set(re.findall(r"\bLineage[A-Z]\w+", block)) <= set(settings()["rules"])
        else:
            file = tmp_path / "values.yaml"
            file.write_text(block)
            helm.template([MINIMAL, file])


def test_nothing_else_is_to_be_typed() -> None:
    programs = {line.split()[0] for page in pages() for line in page.lines("sh")}
    assert programs == {"lineage-collector", "kubectl", "amtool", "docker"}


async def _works(deployment: Deployment, line: str, **words: str) -> None:
    for name, word in words.items():
        line = re.sub(rf"\b{name}\b", word, line)
    assert not re.search(r"\b(SOURCE|SINK|RUN|JOB)\b", line), f"{line} was not filled in"
    code, out, err = await deployment.command(*shlex.split(line)[1:])
    assert code == 0, f"{line}: {out}{err}"


async def _parked(deployment: Deployment) -> list[dict[str, dict[str, str]]]:
    code, out, err = await deployment.command("parked", "list", "--json")
    assert code == 0, err
    return [{"run": {"runId": row["run_id"]}} for row in yaml.safe_load(out)]


def _inside(line: str) -> str:
    return line.partition(" -- ")[2]


def _is_setting(word: str) -> bool:
    first, *rest = word.split(".")
    field = Settings.model_fields.get(first)
    inner = getattr(field.annotation, "model_fields", {}) if field is not None else {}
    return field is not None and (not rest or rest[0] in inner)


def _is_value(values: object, word: str) -> bool:
    parts: Iterable[str] = word.split(".")
    for part in parts:
        if not isinstance(values, dict) or part not in values:
            return isinstance(values, dict) and not values
        values = values[part]
    return True
