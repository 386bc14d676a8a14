"""Every pod meets the "restricted" pod security standard, and no secret is where it could be read."""

import re
from typing import Any

import pytest

from tests.chart.conftest import Rendered
from tests.chart.generated_files import CASES, values_of
from tests.chart.manifests import collector, containers, of_kind, only, pods
from tests.servers.helm import CHART, Helm

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def _violations(pod: dict[str, Any]) -> list[str]:
    """What https://kubernetes.io/docs/concepts/security/pod-security-standards forbids at its level "restricted"."""
    spec = pod["spec"]
    context = spec.get("securityContext", {})
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += [f"volume {name}" for volume in spec["volumes"] for name in set(volume) - {"name"} - _VOLUMES]
    for each in containers(pod):
        own = each.get("securityContext", {})
        effective = {**context, **own}
        rules = {
            "privileged": not own.get("privileged"),
            "privilege escalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities", {}).get("drop") == ["ALL"]
            and set(own["capabilities"].get("add", [])) <= {"NET_BIND_SERVICE"},
            "root": effective.get("runAsNonRoot") is True and effective.get("runAsUser") != 0,
            "seccomp": effective.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "host port": not any(port.get("hostPort") for port in each.get("ports", [])),
        }
        found += [f"{each['name']}: {rule}" for rule, kept in rules.items() if not kept]
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_restricted(rendered: Rendered, case: str) -> None:
    seen = dict(pods(rendered(case)))
    kinds = {name.partition(" ")[0] for name in seen}
    assert "Pod" in kinds
    assert len(kinds & {"StatefulSet", "Deployment"}) == 1
    assert {name: _violations({"spec": {"volumes": [], **pod["spec"]}}) for name, pod in seen.items()} == {
        name: [] for name in seen
    }


@pytest.mark.parametrize("case", CASES)
def test_our_containers_write_only_to_volumes_and_have_no_token(rendered: Rendered, case: str) -> None:
    for name, pod in pods(rendered(case)):
        for each in containers(pod):
            if "busybox" not in each["image"]:
                assert each["securityContext"]["readOnlyRootFilesystem"] is True, name
        wanted = case == "company" and name.startswith("StatefulSet")
        assert pod["spec"]["automountServiceAccountToken"] is wanted, name
        assert pod["spec"]["enableServiceLinks"] is (case == "scheduling"), name


def test_a_violation_would_be_seen(helm: Helm) -> None:
    careless = ["--set", "securityContext.allowPrivilegeEscalation=true", "--set", "podSecurityContext.runAsUser=0"]
    objects = helm.objects(values_of("minimal"), *careless, "--set", "podSecurityContext.seccompProfile=null")
    found = _violations(only(objects, "StatefulSet")["spec"]["template"])
    assert "lineage-collector: privilege escalation" in found
    assert "check-config: root" in found
    assert "lineage-collector: seccomp" in found


def test_the_pod_is_who_the_image_expects(rendered: Rendered) -> None:
    image = (CHART.parents[1] / "Dockerfile").read_text()
    *_, user = re.findall(r"^USER (\d+):(\d+)$", image, re.MULTILINE)  # the last one is who runs
    objects = rendered("minimal")
    context = only(objects, "StatefulSet")["spec"]["template"]["spec"]["securityContext"]
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user
    assert str(context["fsGroup"]) == user[1]
    container = collector(objects)
    assert re.findall(r"^WORKDIR (/var\S+)$", image, re.MULTILINE) == [container["workingDir"]]
    [port] = container["ports"]
    assert re.findall(r"^EXPOSE (\d+)$", image, re.MULTILINE) == [str(port["containerPort"])]
    [config] = [each["value"] for each in container["env"] if each["name"] == "LINEAGE_COLLECTOR_CONFIG"]
    assert f"LINEAGE_COLLECTOR_CONFIG={config}" in image


def test_secrets_are_whole_folders_so_that_they_rotate(rendered: Rendered) -> None:
    """Kubernetes swaps the files of a mounted secret when it changes, but never one that is mounted by subPath."""
    for name, pod in pods(rendered("all-kinds")):
        for each in containers(pod):
            for mount in each.get("volumeMounts", []):
                assert "subPath" not in mount, name
                assert "subPathExpr" not in mount, name
    container = collector(rendered("all-kinds"))
    mounted = {each["mountPath"]: each for each in container["volumeMounts"]}
    folders = {path.rpartition("/")[2] for path in mounted if path.startswith("/run/secrets/")}
    assert folders == {"cdf", "dataprep-token", "catalogue", "kafka"}
    assert all(mounted[f"/run/secrets/{folder}"]["readOnly"] for folder in folders)


def test_secrets_come_from_where_the_values_say(rendered: Rendered) -> None:
    objects = rendered("all-kinds")
    volumes = {each["name"]: each for each in only(objects, "StatefulSet")["spec"]["template"]["spec"]["volumes"]}
    mounts = {each["mountPath"]: volumes.get(each["name"]) for each in collector(objects)["volumeMounts"]}
    cdf, catalogue = mounts["/run/secrets/cdf"], mounts["/run/secrets/catalogue"]
    assert cdf
    assert cdf["secret"] == {
        "secretName": "cdf-credentials",
        "defaultMode": 0o440,
        "items": [{"key": "AZURE_CLIENT_SECRET", "path": "client-secret"}],
    }
    assert catalogue
    assert catalogue["secret"]["secretName"] == "lineage.catalogue"
    env = {each["name"]: each.get("valueFrom", {}).get("secretKeyRef") for each in collector(objects)["env"]}
    assert env["MARQUEZ_API_KEY"] == {"name": "marquez", "key": "api-key"}
    assert env["GATEWAY_KEY"] == {"name": "gateway", "key": "key"}


def test_what_checks_the_configuration_sees_what_the_program_sees(rendered: Rendered) -> None:
    """A secret that is missing fails there."""
    for case in ("all-kinds", "company", "extras", "tls-certificate"):
        objects = rendered(case)
        program = collector(objects)
        for name, pod in pods(objects):
            for each in containers(pod):
                if each["name"] == "check-config":
                    for part in ("image", "env", "envFrom", "volumeMounts", "workingDir"):
                        assert each.get(part) == program.get(part), (name, part)
                    assert each["args"][0] == "check"
                    assert "--offline" in each["args"]


@pytest.mark.parametrize("case", CASES)
def test_the_chart_makes_no_secret(rendered: Rendered, case: str) -> None:
    assert of_kind(rendered(case), "Secret") == []
