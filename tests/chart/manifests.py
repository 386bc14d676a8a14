"""Looking into what Helm rendered."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Object = dict[str, Any]


def of_kind(objects: Sequence[Object], kind: str, name: str | None = None) -> list[Object]:
    return [each for each in objects if each["kind"] == kind and name in {None, each["metadata"]["name"]}]


def only(objects: Sequence[Object], kind: str) -> Object:
    """The one of its kind that is neither a hook nor a headless service."""
    [found] = [
        each
        for each in of_kind(objects, kind)
        if "helm.sh/hook" not in each["metadata"].get("annotations", {}) and not is_headless(each)
    ]
    return found


def is_headless(service: Object) -> bool:
    return service["kind"] == "Service" and bool(service["spec"].get("clusterIP") == "None")


def pods(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod that would run, by what makes it: its `metadata` and `spec`."""
    for each in objects:
        match each["kind"]:
            case "Pod":
                yield f"Pod {each['metadata']['name']}", each
            case "CronJob":
                yield f"CronJob {each['metadata']['name']}", each["spec"]["jobTemplate"]["spec"]["template"]
            case "StatefulSet" | "Deployment" | "Job":
                yield f"{each['kind']} {each['metadata']['name']}", each["spec"]["template"]


def workload(objects: Sequence[Object]) -> Object:
    """What makes the pods that run the program."""
    [found] = [each for each in objects if each["kind"] in {"StatefulSet", "Deployment"}]
    return found


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def collector(objects: Sequence[Object]) -> Object:
    """The container that runs the program."""
    [found] = workload(objects)["spec"]["template"]["spec"]["containers"][:1]
    return dict(found)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths; an empty mapping and a list are leaves."""
    for key, value in values.items():
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict) and value:
            yield from leaves(value, path)
        else:
            yield path, value


def laid_over(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm lays a second file of values over a first one."""
    merged = dict(values)
    for key, value in more.items():
        below = merged.get(key)
        merged[key] = laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
