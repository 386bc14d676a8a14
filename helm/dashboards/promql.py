"""PromQL with the dashboards' variables in it."""

NAMESPACE, INSTANCE, SOURCE, SINK, JOB = "namespace", "instance", "source", "sink", "job"


def chosen(metric: str, *more: str) -> str:
    """The series of this metric that are chosen: `more` are names of variables, or matchers such as `result="ok"`."""
    matchers = [word if '"' in word else f'{word}=~"${word}"' for word in (NAMESPACE, INSTANCE, *more)]
    return f"{metric}{{{', '.join(matchers)}}}"


def rate(series: str) -> str:
    return f"rate({series}[$__rate_interval])"


def over_range(series: str) -> str:
    """The increase in the shown time."""
    return f"increase({series}[$__range])"


def quantile(share: float, bucket: str, *by: str, window: str = "$__rate_interval") -> str:
    return f"histogram_quantile({share}, sum by ({', '.join(('le', *by))}) (rate({bucket}[{window}])))"


def newest(series: str, *by: str) -> str:
    """One value for each `by`, also in the minutes in which the series of a process that was replaced are still there."""
    return f"max by ({', '.join((NAMESPACE, *by))}) ({series})"


def of_collectors(expr: str) -> str:
    """A metric that every process exports, of the chosen collectors alone."""
    return f"{expr} and on (namespace, instance) {chosen('lineage_build_info')}"


def or_zero(expr: str) -> str:
    """0 where nothing matches, as that is the good case."""
    return f"{expr} or vector(0)"
