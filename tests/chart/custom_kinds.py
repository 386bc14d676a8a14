"""Strict schemas of the custom kinds that the chart makes, as far as it makes them: what is not named here is refused.

Written after the definitions of prometheus-operator v0.80, Gateway API v1.2 and cert-manager v1.17, whose servers drop unknown
fields in silence.
"""

from typing import Any

import jsonschema

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_MAP: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
_DURATION: dict[str, Any] = {
    "type": "string",
    "pattern": "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    return made | ({"required": required.split()} if required else {})


def _list(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


_NAMES = _list(_TEXT)
_KEY = _object("name key", name=_TEXT, key=_TEXT, optional={"type": "boolean"})
_EITHER = _object(secret=_KEY, configMap=_KEY)
_SELECTOR = _object(matchLabels=_MAP, matchExpressions=_list({"type": "object"}))
_RELABELING = _object(
    action={
        "enum": [
            each
            for word in ("replace", "keep", "drop", "hashMod", "labelMap", "labelDrop", "labelKeep")
            for each in (word.lower(), word[0].upper() + word[1:])
        ]
    },
    sourceLabels=_NAMES,
    targetLabel=_TEXT,
    regex={"type": "string"},
    replacement={"type": "string"},
    separator={"type": "string"},
    modulus={"type": "integer"},
)
_ENDPOINT = _object(
    "port",
    port=_TEXT,
    path={"type": "string", "pattern": "^/"},
    scheme={"enum": ["http", "https"]},
    honorLabels={"type": "boolean"},
    interval=_DURATION,
    scrapeTimeout=_DURATION,
    tlsConfig=_object(
        ca=_EITHER, cert=_EITHER, keySecret=_KEY, serverName=_TEXT, insecureSkipVerify={"type": "boolean"}
    ),
    basicAuth=_object("username password", username=_KEY, password=_KEY),
    relabelings=_list(_RELABELING),
    metricRelabelings=_list(_RELABELING),
)
_LABELLED = {"namespaceSelector": _object(any={"type": "boolean"}, matchNames=_NAMES), "selector": _SELECTOR}
_LIMIT = {"sampleLimit": {"type": "integer", "minimum": 1}}
_RULE = _object(
    "expr",
    alert=_TEXT,
    record=_TEXT,
    expr=_TEXT,
    **{"for": _DURATION},
    keep_firing_for=_DURATION,
    labels=_MAP,
    annotations=_MAP,
)
_GROUP = _object("name rules", name=_TEXT, interval=_DURATION, labels=_MAP, rules=_list(_RULE, minItems=1))
_PARENT = _object(
    "name", name=_TEXT, namespace=_TEXT, sectionName=_TEXT, port={"type": "integer"}, kind=_TEXT, group=_TEXT
)
_MATCH = _object(
    path=_object("type value", type={"enum": ["Exact", "PathPrefix"]}, value={"type": "string", "pattern": "^/"}),
    method={"enum": ["GET", "POST"]},
)
_BACKEND = _object("name port", name=_TEXT, port={"type": "integer"})

_SPECS: dict[tuple[str, str], dict[str, Any]] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _object(
        "selector endpoints", **_LABELLED, **_LIMIT, targetLabels=_NAMES, endpoints=_list(_ENDPOINT, minItems=1)
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): _object(
        "selector podMetricsEndpoints",
        **_LABELLED,
        **_LIMIT,
        podTargetLabels=_NAMES,
        podMetricsEndpoints=_list(_ENDPOINT, minItems=1),
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _object("groups", groups=_list(_GROUP)),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): _object(
        "parentRefs rules",
        parentRefs=_list(_PARENT, minItems=1),
        hostnames=_NAMES,
        rules=_list(_object("matches backendRefs", matches=_list(_MATCH), backendRefs=_list(_BACKEND)), minItems=1),
    ),
    ("cert-manager.io/v1", "Certificate"): _object(
        "secretName dnsNames issuerRef",
        secretName=_TEXT,
        duration=_DURATION,
        dnsNames=_list(_TEXT, minItems=1),
        issuerRef=_object("name", name=_TEXT, kind=_TEXT, group=_TEXT),
        privateKey=_object(rotationPolicy={"enum": ["Always", "Never"]}),
    ),
}
_METADATA = _object("name namespace labels", name=_TEXT, namespace=_TEXT, labels=_MAP, annotations=_MAP)


def is_custom(made: dict[str, Any]) -> bool:
    return (made["apiVersion"], made["kind"]) in _SPECS


def check(made: dict[str, Any]) -> None:
    """Raises `jsonschema.ValidationError`."""
    spec = _SPECS[made["apiVersion"], made["kind"]]
    whole = _object("metadata spec", apiVersion=_TEXT, kind=_TEXT, metadata=_METADATA, spec=spec)
    jsonschema.Draft202012Validator(whole).validate(made)
