"""What each object of the chart is there for."""

import json
import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import Rendered
from tests.chart.generated_files import CASES, values_of
from tests.chart.manifests import collector, containers, is_headless, laid_over, of_kind, only, pods, workload
from tests.servers.helm import CHART, Helm
from tests.servers.processes import unavailable

Values = dict[str, Any]
_LEDGER = "/var/lib/lineage-collector"


def _pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return dict(workload(objects)["spec"]["template"])


def test_what_kubernetes_never_lets_change_stays_over_versions(helm: Helm, minimal: Values, tmp_path: Path) -> None:
    newer = tmp_path / "chart"
    shutil.copytree(CHART, newer)
    about = yaml.safe_load((newer / "Chart.yaml").read_text())
    (newer / "Chart.yaml").write_text(yaml.safe_dump({**about, "version": "7.0.0", "appVersion": "9.9.9"}))
    before = only(helm.objects(minimal), "StatefulSet")
    labels = {"commonLabels": {"team": "data"}, "podLabels": {"app.kubernetes.io/name": "mine"}}
    after = only(helm.objects(laid_over(minimal, labels), chart=newer), "StatefulSet")
    assert "9.9.9" in json.dumps(after)
    assert before["metadata"]["name"] == after["metadata"]["name"]
    for part in ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy"):
        assert before["spec"].get(part) == after["spec"].get(part), part
    assert before["spec"]["podManagementPolicy"] == "Parallel", "else no rollback mends a pod that was never ready"


def test_a_larger_volume_changes_what_kubernetes_lets_nobody_change_and_nothing_else(
    helm: Helm, minimal: Values
) -> None:
    """So docs/operations.md has the claim expanded and the StatefulSet deleted, which leaves the pod: its template stays."""
    before, after = (
        only(helm.objects(laid_over(minimal, {"persistence": {"size": size}})), "StatefulSet")
        for size in ("4Gi", "8Gi")
    )
    claims = [each["spec"].pop("volumeClaimTemplates") for each in (before, after)]
    assert before == after
    assert [claim["spec"]["resources"]["requests"]["storage"] for [claim] in claims] == ["4Gi", "8Gi"]


def test_the_documented_patch_makes_the_claim_larger(helm: Helm, minimal: Values, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        unavailable("kubectl is not installed")
    page = (CHART.parents[1] / "docs" / "operations.md").read_text()
    [words] = re.findall(r"patch pvc data-NAME-0 --patch '([^']+)'", page)
    [template] = only(helm.objects(minimal), "StatefulSet")["spec"]["volumeClaimTemplates"]
    claim = tmp_path / "claim.json"
    claim.write_text(json.dumps(template))
    command = [kubectl, "patch", "--local", "-f", str(claim), "--patch", words, "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["spec"]["resources"]["requests"]["storage"] == "8Gi"


@pytest.mark.parametrize("case", CASES)
def test_selectors_find_the_pod_and_no_hook(rendered: Rendered, case: str) -> None:
    objects = rendered(case)
    own = [_selector(each) for each in objects if _selector(each)]
    assert len(own) >= 2
    for name, pod in pods(objects):
        for selector in own:
            finds = selector.items() <= pod["metadata"]["labels"].items()
            assert finds is name.startswith(("StatefulSet", "Deployment")), (name, selector)
    for monitor in of_kind(objects, "ServiceMonitor"):
        found = (
            monitor["spec"]["selector"]["matchLabels"].items() <= only(objects, "Service")["metadata"]["labels"].items()
        )
        assert found


def _selector(each: dict[str, Any]) -> dict[str, str]:
    spec = each.get("spec", {})
    match each["kind"]:
        case "Service":
            return dict(spec["selector"])
        case "StatefulSet" | "Deployment" | "PodDisruptionBudget" | "PodMonitor":
            return dict(spec["selector"]["matchLabels"])
        case "NetworkPolicy":
            return dict(spec["podSelector"]["matchLabels"])
    return {}


@pytest.mark.parametrize("case", CASES)
def test_all_objects_have_our_labels_and_the_namespace(rendered: Rendered, case: str) -> None:
    for each in rendered(case):
        if each["metadata"]["name"].endswith(("-more", "-cdf")):
            continue  # extraManifests
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "lineage"
        assert labels["helm.sh/chart"].startswith("lineage-collector-")
        assert ("example.com/cost-centre" in labels) is (case == "company")
        elsewhere = (
            "monitoring" if "Monitor" in each["kind"] and case in {"prometheus-operator", "pod-monitor"} else None
        )
        namespace = elsewhere or ("lineage" if case == "company" else "data")
        if case != "dashboards":
            assert each["metadata"]["namespace"] == namespace


def test_names_fit(helm: Helm, minimal: Values) -> None:
    values = laid_over(minimal, {"backup": {"enabled": True, "existingClaim": "backups"}})
    objects = helm.objects(values, release="a-release-with-a-name-as-long-as-helm-lets-it-be-53")
    name = only(objects, "StatefulSet")["metadata"]["name"]
    assert len(f"{name}-7c9d8f6b5d") <= 63
    assert not name.endswith("-")
    assert len(only(objects, "CronJob")["metadata"]["name"]) <= 52, "Kubernetes refuses a longer one"


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("postgres")])
def test_the_stateful_set_has_its_headless_service_which_nobody_scrapes(rendered: Rendered, case: str) -> None:
    objects = rendered(case)
    [headless] = [each for each in of_kind(objects, "Service") if is_headless(each)]
    name, labels = headless["metadata"]["name"], headless["metadata"]["labels"]
    assert only(objects, "StatefulSet")["spec"]["serviceName"] == name
    assert len(name) <= 63
    for monitor in of_kind(objects, "ServiceMonitor"):
        assert not monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_a_release_named_after_the_chart_says_it_once(helm: Helm, minimal: Values) -> None:
    assert (
        only(helm.objects(minimal, release="lineage-collector"), "Service")["metadata"]["name"] == "lineage-collector"
    )


def test_a_ledger_on_a_volume_has_one_replica(rendered: Rendered) -> None:
    objects = rendered("minimal")
    assert only(objects, "StatefulSet")["spec"]["replicas"] == 1
    assert of_kind(objects, "Deployment") == []
    assert of_kind(objects, "PodDisruptionBudget") == []


def test_a_ledger_in_postgresql_has_replicas_and_no_volume(rendered: Rendered) -> None:
    objects = rendered("postgres")
    assert of_kind(objects, "StatefulSet") == []
    assert [each for each in of_kind(objects, "Service") if is_headless(each)] == []
    spec = only(objects, "Deployment")["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    for name, pod in pods(objects):
        assert not [each for each in pod["spec"].get("volumes", []) if "persistentVolumeClaim" in each], name
        assert "data" not in [each["name"] for each in pod["spec"].get("volumes", [])], name
    [secret] = [each for each in _pod(objects)["spec"]["volumes"] if each["name"].startswith("secret-postgres")]
    assert secret["secret"]["secretName"] == "lineage-postgres"
    variables = {each["name"]: each.get("valueFrom") for each in collector(rendered("postgres-env"))["env"]}
    assert variables["LEDGER_PASSWORD"] == {"secretKeyRef": {"name": "lineage-postgres", "key": "password"}}


def test_replicas_keep_apart_and_one_goes_at_a_time(rendered: Rendered) -> None:
    objects = rendered("postgres")
    found = _pod(objects)["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in found] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for each in found:
        assert each["labelSelector"] == only(objects, "Deployment")["spec"]["selector"]
        assert each["whenUnsatisfiable"] == "ScheduleAnyway", "a cluster of one node must do"
        assert each["matchLabelKeys"] == ["pod-template-hash"], "else old pods count during an upgrade"
    assert only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert "topologySpreadConstraints" not in _pod(rendered("postgres-env"))["spec"]


def test_own_values_of_a_deployment_win(helm: Helm, minimal: Values, rendered: Rendered) -> None:
    assert only(rendered("postgres-env"), "Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1}
    changes = {
        "config": {"ledger": {"url": "postgresql://h/d"}}, "replicas": 2, "updateStrategy": {"type": "Recreate"},
        "podDisruptionBudget": {"enabled": False}, "topologySpreadConstraints": [{"topologyKey": "rack", "maxSkew": 2}],
    }  # fmt: skip
    objects = helm.objects(laid_over(minimal, changes))
    assert only(objects, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert of_kind(objects, "PodDisruptionBudget") == []
    assert _pod(objects)["spec"]["topologySpreadConstraints"] == [{"topologyKey": "rack", "maxSkew": 2}]


@pytest.mark.parametrize(
    ("case", "volume"),
    [
        ("minimal", None),
        ("existing-claim", {"persistentVolumeClaim": {"claimName": "lineage-ledger"}}),
        ("no-volume", {"emptyDir": {"sizeLimit": "2Gi"}}),
    ],
)
def test_the_ledger_lies_on_its_volume(rendered: Rendered, case: str, volume: dict[str, Any] | None) -> None:
    objects = rendered(case)
    [mount] = [each for each in collector(objects)["volumeMounts"] if each["mountPath"] == _LEDGER]
    found = [each for each in _pod(objects)["spec"]["volumes"] if each["name"] == mount["name"]]
    spec = only(objects, "StatefulSet")["spec"]
    if volume is None:
        assert found == []
        [claim] = spec["volumeClaimTemplates"]
        assert claim["metadata"]["name"] == mount["name"]
        assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "4Gi"}}}
        assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    else:
        assert found == [{"name": mount["name"], **volume}]
        assert "volumeClaimTemplates" not in spec
        assert "persistentVolumeClaimRetentionPolicy" not in spec


def test_a_volume_to_order(rendered: Rendered) -> None:
    spec = only(rendered("storage"), "StatefulSet")["spec"]
    [claim] = spec["volumeClaimTemplates"]
    assert claim["metadata"]["annotations"] == {"example.com/backup": "daily"}
    assert claim["metadata"]["labels"]["example.com/tier"] == "gold"
    assert claim["spec"]["storageClassName"] == "premium-rwo"
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


def test_a_new_configuration_makes_a_new_pod(helm: Helm, minimal: Values) -> None:
    before = deepcopy(minimal)
    minimal["config"]["sinks"][0]["url"] = "http://other:5000"
    sums = [
        _pod(helm.objects(values))["metadata"]["annotations"]["checksum/config"] for values in (before, minimal, before)
    ]
    assert sums[0] == sums[2] != sums[1]


def test_each_probe_asks_its_own_page(rendered: Rendered) -> None:
    container = collector(rendered("minimal"))
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    pages = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert asked == {name: {"path": path, "port": "metrics", "scheme": "HTTP"} for name, path in pages.items()}


def test_each_probe_obeys_its_own_values(helm: Helm, minimal: Values) -> None:
    numbers = {"startupProbe": 1, "livenessProbe": 2, "readinessProbe": 3}
    changed = {name: {"failureThreshold": number, "tcpSocket": {"port": number}} for name, number in numbers.items()}
    container = collector(helm.objects(laid_over(minimal, changed)))
    for name, number in numbers.items():
        assert container[name]["failureThreshold"] == number
        assert container[name]["tcpSocket"] == {"port": number}
        assert not {"httpGet", "enabled"} & set(container[name])
        off = collector(helm.objects(laid_over(minimal, {name: {"enabled": False}})))
        assert {key for key in off if key.endswith("Probe")} == set(numbers) - {name}


def test_with_tls_everything_that_asks_follows(rendered: Rendered) -> None:
    objects = rendered("tls-certificate")
    container = collector(objects)
    assert {container[f"{name}Probe"]["httpGet"]["scheme"] for name in ("startup", "liveness", "readiness")} == {
        "HTTPS"
    }
    [endpoint] = only(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["basicAuth"]["password"] == {"name": "lineage-scraper", "key": "password"}
    [test] = of_kind(objects, "Pod")
    assert containers(test)[0]["args"][-1] == "https://lineage-lineage-collector.data.svc:443"
    certificate = only(objects, "Certificate")["spec"]
    assert "lineage-lineage-collector.data.svc" in certificate["dnsNames"]
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert {"/run/secrets/web", "/run/secrets/web-tls"} <= mounts
    [volume] = [each for each in _pod(objects)["spec"]["volumes"] if each["name"] == "web-tls"]
    assert volume["secret"]["secretName"] == certificate["secretName"]


def test_the_web_configuration_file_is_one_that_the_program_reads(rendered: Rendered) -> None:
    from config.web import WebConfig

    objects = rendered("tls-secret")
    data = only(objects, "ConfigMap")["data"]
    assert yaml.safe_load(data["config.yaml"])["http"]["web_config_file"] == "/etc/lineage-collector/web.yaml"
    written = yaml.safe_load(data["web.yaml"])
    mounted = {each["mountPath"] for each in collector(objects)["volumeMounts"]}
    assert {str(Path(path).parent) for path in written["tls_server_config"].values()} <= mounted
    assert set(written) <= set(WebConfig.model_fields)
    assert set(written["tls_server_config"]) == {"cert_file", "key_file"}


def test_tls_of_a_secret_is_verified_by_its_own_authority(helm: Helm, minimal: Values) -> None:
    values = laid_over(minimal, {"web": {"tlsSecret": "t"}, "serviceMonitor": {"enabled": True}})
    [endpoint] = only(helm.objects(values), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["tlsConfig"] == {
        "ca": {"secret": {"name": "t", "key": "ca.crt"}},
        "serverName": "lineage-lineage-collector.data.svc",
    }


def test_annotations_for_a_prometheus_without_the_operator(rendered: Rendered) -> None:
    annotations = _pod(rendered("prometheus-annotations"))["metadata"]["annotations"]
    assert {key: value for key, value in annotations.items() if key.startswith("prometheus.io/")} == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "17817",
        "prometheus.io/path": "/metrics",
        "prometheus.io/scheme": "http",
    }
    assert annotations["example.com/team"] == "data"


def _egress(objects: list[dict[str, Any]]) -> list[int]:
    rules = only(objects, "NetworkPolicy")["spec"]["egress"]
    return [port["port"] for port in rules[1]["ports"]]


def test_the_way_out_is_by_the_ports_of_what_is_configured(helm: Helm, minimal: Values) -> None:
    values = laid_over(minimal, {"networkPolicy": {"enabled": True}})
    assert _egress(helm.objects(values)) == [443, 5000]
    all_kinds = laid_over(yaml.safe_load(values_of("all-kinds").read_text()), {"networkPolicy": {"enabled": True}})
    assert _egress(helm.objects(all_kinds)) == [443, 5000, 8443, 9093]
    sources = values["config"]["sources"]
    sources[0]["network"] = {"proxy": "http://[2001:db8::1]:8080"}
    sources[0]["base_url"] = "http://cdf.example.com"
    sources.append({"platform": "mine", "name": "p", "namespace": "https://x:1", "options": {"url": "https://a:7/b:8"}})
    values["config"]["sinks"] = [{"name": "k", "type": "kafka", "bootstrap_servers": "a:19092, b:29092"}]
    values["config"]["hints"] = {"bootstrap_servers": ["a:39092"]}
    values["networkPolicy"]["egress"] = {"ports": [65535, 443]}
    assert _egress(helm.objects(values)) == [7, 80, 443, 8080, 19092, 29092, 39092, 65535]


def test_the_network_policy_lets_out_to_postgresql(rendered: Rendered) -> None:
    assert 5432 in _egress(rendered("postgres"))
    assert {5432, 6432} <= set(_egress(rendered("postgres-env"))), "each host has its own port"


def test_the_network_policy_lets_in_what_is_configured(rendered: Rendered) -> None:
    spec = only(rendered("network-policy"), "NetworkPolicy")["spec"]
    [rule] = spec["ingress"]
    assert rule["ports"] == [{"port": "metrics", "protocol": "TCP"}]
    names = [each["namespaceSelector"]["matchLabels"] for each in rule["from"] if "namespaceSelector" in each]
    assert names == [{"kubernetes.io/metadata.name": name} for name in ("monitoring", "ingress-nginx")]
    [test] = of_kind(rendered("network-policy"), "Pod")
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= test["metadata"]["labels"].items()
    dns, targets, own = spec["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert [each["ipBlock"]["cidr"] for each in targets["to"] if "ipBlock" in each] == [
        "203.0.113.0/24",
        "2001:db8::/32",
    ]
    assert own["ports"][0]["port"] == 3128


def test_a_webhook_comes_in_by_its_path_alone(rendered: Rendered) -> None:
    [rule] = only(rendered("webhook-ingress"), "Ingress")["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/hints/", "Prefix")
    [route] = only(rendered("webhook-gateway"), "HTTPRoute")["spec"]["rules"]
    assert route["matches"] == [{"path": {"type": "PathPrefix", "value": "/hints/"}, "method": "POST"}]
    service = only(rendered("webhook-gateway"), "Service")
    assert {"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]} in route["backendRefs"]


def test_the_image(helm: Helm, minimal: Values, rendered: Rendered) -> None:
    """Said in one place for all of our containers."""
    for case, image in (
        ("minimal", "ghcr.io/lineage-collector/lineage-collector:0.1.0"),
        ("company", f"registry.example.com/mirror/lineage-collector@sha256:{'0123456789abcdef' * 4}"),
    ):
        found = {each["image"] for _, pod in pods(rendered(case)) for each in containers(pod)}
        assert found == {image}
    for _, pod in pods(rendered("company")):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry-credentials"}]
    local = helm.objects(laid_over(minimal, {"image": {"registry": "", "tag": "dev_1."}}))
    assert collector(local)["image"] == "lineage-collector/lineage-collector:dev_1."
    assert only(local, "Service")["metadata"]["labels"]["app.kubernetes.io/version"] == "dev_1"


def test_extra_manifests_are_templates(rendered: Rendered) -> None:
    [more] = of_kind(rendered("extras"), "ConfigMap", "lineage-lineage-collector-more")
    assert more["data"] == {"pod": "lineage-lineage-collector-0"}
    assert of_kind(rendered("extras"), "ExternalSecret", "lineage-lineage-collector-cdf")


def test_extras_go_to_the_program_and_to_what_checks_for_it(rendered: Rendered) -> None:
    spec = _pod(rendered("extras"))["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["wait", "check-config"]
    assert [each["name"] for each in spec["containers"]] == ["lineage-collector", "ship"]
    container = spec["containers"][0]
    assert container["args"] == ["run", "--config", "/etc/lineage-collector/config.yaml", "--help"]
    assert container["envFrom"] == [{"configMapRef": {"name": "more-settings"}}]
    assert {"name": "archive", "mountPath": "/archive"} in container["volumeMounts"]


def test_a_new_configuration_is_checked_before_the_old_pod_goes(rendered: Rendered) -> None:
    objects = rendered("minimal")
    hooks = {
        each["kind"]: each
        for each in objects
        if "pre-upgrade" in each["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    }
    assert set(hooks) == {"ConfigMap", "Job"}
    assert int(hooks["ConfigMap"]["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0
    assert hooks["ConfigMap"]["data"] == only(objects, "ConfigMap")["data"]
    spec = hooks["Job"]["spec"]["template"]["spec"]
    assert hooks["Job"]["spec"]["backoffLimit"] == 0
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes["config"]["configMap"]["name"] == hooks["ConfigMap"]["metadata"]["name"]
    assert "emptyDir" in volumes["data"], "the ledger's volume is the running pod's"
    assert spec["serviceAccountName"] == "default", "ours may not be there yet"
    assert of_kind(rendered("company-secrets"), "Job") == []


def test_the_backup_runs_beside_the_pod_and_writes_to_its_own_volume_alone(rendered: Rendered) -> None:
    objects = rendered("backup")
    made = only(objects, "CronJob")
    assert (made["spec"]["schedule"], made["spec"]["timeZone"]) == ("30 2 * * *", "Europe/Oslo")
    assert made["spec"]["concurrencyPolicy"] == "Forbid"
    spec = made["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    volumes = {each["name"]: each for each in spec["volumes"]}
    claims = {name: volumes[name]["persistentVolumeClaim"]["claimName"] for name in ("data", "backups")}
    stateful = only(objects, "StatefulSet")
    assert claims == {"data": f"data-{stateful['metadata']['name']}-0", "backups": "lineage-backups"}
    [beside] = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert beside["labelSelector"] == stateful["spec"]["selector"]
    [container] = spec["containers"]
    assert container["args"] == ["backup", "/var/backups/lineage.db"]
    assert {"name": "backups", "mountPath": "/var/backups"} in container["volumeMounts"]
    assert of_kind(rendered("minimal"), "CronJob") == []


def test_every_mount_has_its_volume(rendered: Rendered) -> None:
    for case in CASES:
        objects = rendered(case)
        claims = {each["metadata"]["name"] for each in workload(objects)["spec"].get("volumeClaimTemplates", [])}
        for name, pod in pods(objects):
            volumes = [each["name"] for each in pod["spec"].get("volumes", [])]
            assert len(volumes) == len(set(volumes)), (case, name)
            used = {mount["name"] for each in containers(pod) for mount in each.get("volumeMounts", [])}
            own = claims if name.startswith("StatefulSet") else set()
            assert used == set(volumes) | own, (case, name)
