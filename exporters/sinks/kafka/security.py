"""TLS and login of a client of Kafka, as FastStream takes them. Importing it costs as much as FastStream."""

import ssl

from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from collector.tls import Trust, tls_context
from exporters.sinks.kafka.cluster import Cluster

_LOGINS: dict[str, type[SASLPlaintext | SASLScram256 | SASLScram512]] = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}


def security_of(cluster: Cluster) -> BaseSecurity:
    """Raises `ConfigurationError` for files of TLS that cannot be used."""
    tls = _tls_of(cluster.trust) if cluster.trust is not None else None
    if cluster.login is None:
        return BaseSecurity(ssl_context=tls, use_ssl=tls is not None)
    login, password = _LOGINS[cluster.login.mechanism], cluster.login.password()
    return login(cluster.login.username, password, ssl_context=tls, use_ssl=tls is not None)


def _tls_of(trust: Trust) -> ssl.SSLContext:
    context = tls_context(trust)
    return ssl.create_default_context() if context is True else context
