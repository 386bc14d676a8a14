"""The key of an event in Kafka, which chooses its partition."""

import re

import orjson


def message_key(body: bytes) -> bytes | None:
    """The key that the OpenLineage clients use: all runs of a job and a whole chain of parents in one partition.

    `run:{namespace}/{name}` of the root parent's job, else the parent's, else the event's own. None when `body` is not a
    run event. It is read from the bytes: a column would make every event's row, also of those without Kafka, longer by the names
    of namespace and job; these may change in the job's row after the event was made; and of a run with two events a cache would
    save one reading at best.
    """
    return _canonical_key(body) or _parsed_key(body)


def _canonical_key(body: bytes) -> bytes | None:
    """Of an event without a parent as our own are written, with sorted keys; None for all others. Reading all of it takes twice
    as long, a tenth of an event's way. Quotes within texts are escaped, so what is looked for are keys.
    """
    run_at = body.rfind(_RUN)
    if run_at < 0 or body.find(_PARENT, run_at) >= 0:
        return None
    job_at = body.find(_JOB)
    end = body.find(_OUTPUTS, job_at, run_at)
    if end < 0:
        end = body.rfind(_PRODUCER, job_at, run_at)
    namespace_at = body.rfind(_NAMESPACE, job_at, end)
    name_at = body.rfind(_NAME, job_at, namespace_at)
    if min(job_at, end, namespace_at, name_at) < 0:
        return None
    name, namespace = body[name_at + len(_NAME) : namespace_at], body[namespace_at + len(_NAMESPACE) : end]
    if not (_PLAIN.fullmatch(name) and _PLAIN.fullmatch(namespace)):
        return None
    return b"run:%b/%b" % (namespace, name)


_PLAIN = re.compile(rb'[^"\\]+')
_JOB, _NAME, _NAMESPACE = b'"job":{"facets":', b',"name":"', b'","namespace":"'
_OUTPUTS, _PRODUCER = b'"},"outputs":[', b'"},"producer":"'
_RUN, _PARENT = b'","run":{"facets":{', b'"parent":{'


def _parsed_key(body: bytes) -> bytes | None:
    try:
        event = orjson.loads(body)
        parent = (event["run"].get("facets") or {}).get("parent") or {}
        for job in ((parent.get("root") or {}).get("job"), parent.get("job"), event["job"]):
            if job and job["namespace"] and job["name"]:
                return f"run:{job['namespace']}/{job['name']}".encode()
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return None
