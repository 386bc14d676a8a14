"""What a node makes of the chart's StatefulSet, by podman: containers, users, volumes, secrets and probes as rendered."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.podman import Container

Secrets = Mapping[str, Mapping[str, str]]
"""Values by the secret's name and key."""

_UNDERSTOOD = {
    "args", "command", "env", "image", "imagePullPolicy", "livenessProbe", "name", "ports", "readinessProbe",
    "resources", "securityContext", "startupProbe", "volumeMounts", "workingDir",
}  # fmt: skip


class Pod:
    """`folder` is the node's disk: claims and empty directories in it outlive containers, as they do there.

    `image` stands in for the one in the manifests, which no registry has yet.
    """

    def __init__(self, manifests: Sequence[Mapping[str, Any]], folder: Path, *, secrets: Secrets, image: str) -> None:
        [stateful_set] = [each for each in manifests if each["kind"] == "StatefulSet"]
        self.spec: dict[str, Any] = stateful_set["spec"]["template"]["spec"]
        self._claims = [claim["metadata"]["name"] for claim in stateful_set["spec"].get("volumeClaimTemplates", [])]
        self._maps = {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"}
        self._secrets, self._folder, self._image = secrets, folder, image
        self._group = int(self.spec["securityContext"]["fsGroup"])
        self._mount_all()

    @property
    def main(self) -> dict[str, Any]:
        [container] = self.spec["containers"]
        return dict(container)

    @property
    def grace_seconds(self) -> int:
        return int(self.spec["terminationGracePeriodSeconds"])

    def volume(self, name: str) -> Path:
        """Where it lies on the node."""
        return self._folder / name

    def volume_of_secret(self, name: str) -> str:
        [volume] = [each for each in self.spec["volumes"] if each.get("secret", {}).get("secretName") == name]
        return str(volume["name"])

    def init_containers(self) -> Iterator[Container]:
        for container in self.spec.get("initContainers", []):
            yield self._container(container)

    def container(self) -> Container:
        """The program's, as it is made anew after each end."""
        return self._container(self.main)

    def probe(self, name: str) -> int:
        """The status that the kubelet gets, 0 for none."""
        return self._get(self.main[name]["httpGet"])[0]

    def scrape(self) -> str:
        return self._get({"path": "/metrics", "port": "metrics"})[1]

    def rotate(self, volume: str, values: Mapping[str, str]) -> None:
        """As the kubelet does it: a new folder, then the link to it is swapped."""
        place = self.volume(volume)
        with _owned_by(self._group):
            version = place / f"..{len(list(place.iterdir()))}"
            version.mkdir(mode=0o755)
            for key, value in values.items():
                (version / key).write_text(value)
                (version / key).chmod(0o440)
                if not (place / key).is_symlink():
                    (place / key).symlink_to(f"..data/{key}")
            fresh = place / "..data_tmp"
            fresh.symlink_to(version.name)
            fresh.replace(place / "..data")

    def _container(self, spec: Mapping[str, Any]) -> Container:
        strange = set(spec) - _UNDERSTOOD
        assert not strange, f"teach tests/image/pod.py what {strange} means"
        words = [*spec.get("command", [])[1:], *spec.get("args", [])]
        entry = ["--entrypoint", spec["command"][0]] if "command" in spec else []
        options = [*self._rights(spec), *self._environment(spec), *self._mounts(spec), *entry, "--network", "host"]
        if "workingDir" in spec:
            options += ["--workdir", spec["workingDir"]]
        if limit := spec.get("resources", {}).get("limits", {}).get("memory"):
            options += ["--memory", limit.replace("i", "").lower()]
        return Container(self._image, options, words)

    def _rights(self, spec: Mapping[str, Any]) -> Iterator[str]:
        rights = {**self.spec["securityContext"], **spec["securityContext"]}
        yield from ("--user", f"{rights['runAsUser']}:{rights['runAsGroup']}", "--group-add", str(self._group))
        for capability in rights["capabilities"]["drop"]:
            yield from ("--cap-drop", capability)
        if rights["readOnlyRootFilesystem"]:
            yield from ("--read-only", "--read-only-tmpfs=false")
        if not rights["allowPrivilegeEscalation"]:
            yield from ("--security-opt", "no-new-privileges")

    def _environment(self, spec: Mapping[str, Any]) -> Iterator[str]:
        for variable in spec.get("env", []):
            value = variable.get("value")
            if value is None:
                reference = variable["valueFrom"]["secretKeyRef"]
                value = self._secrets[reference["name"]][reference["key"]]
            yield from ("--env", f"{variable['name']}={value}")

    def _mounts(self, spec: Mapping[str, Any]) -> Iterator[str]:
        for mount in spec["volumeMounts"]:
            suffix = ":ro" if mount.get("readOnly") else ""
            yield from ("--volume", f"{self.volume(mount['name'])}:{mount['mountPath']}{suffix}")

    def _mount_all(self) -> None:
        for name in self._claims:
            self._empty(name)
        for volume in self.spec["volumes"]:
            self._empty(volume["name"])
            if "configMap" in volume:
                self.rotate(volume["name"], self._maps[volume["configMap"]["name"]])
            elif "secret" in volume:
                known = self._secrets[volume["secret"]["secretName"]]
                items = volume["secret"].get("items") or [{"key": key, "path": key} for key in known]
                self.rotate(volume["name"], {item["path"]: known[item["key"]] for item in items})
            else:
                assert "emptyDir" in volume, volume

    def _empty(self, name: str) -> None:
        place = self.volume(name)
        place.mkdir(parents=True, exist_ok=True)
        os.chown(place, 0, self._group)
        place.chmod(0o2775)

    def _get(self, target: Mapping[str, Any]) -> tuple[int, str]:
        [port] = [port["containerPort"] for port in self.main["ports"] if port["name"] == target["port"]]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{target['path']}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""


@contextmanager
def _owned_by(group: int) -> Iterator[None]:
    """Files that are made meanwhile belong to root and this group, as those of a projected volume do."""
    former = os.getegid()
    os.setegid(group)
    try:
        yield
    finally:
        os.setegid(former)
