"""TLS and login of a client of Kafka, as FastStream takes them. Importing it costs as much as FastStream."""

import ssl

from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from collector.tls import Trust
from exporters.sinks.kafka.cluster import Cluster

_LOGINS: dict[str, type[SASLPlaintext | SASLScram256 | SASLScram512]] = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}


def security_of(cluster: Cluster, tls: ssl.SSLContext | None) -> BaseSecurity:
    if cluster.login is None:
        return BaseSecurity(ssl_context=tls, use_ssl=tls is not None)
    login, password = _LOGINS[cluster.login.mechanism], cluster.login.password()
    return login(cluster.login.username, password, ssl_context=tls, use_ssl=tls is not None)


def tls_context(trust: Trust | None) -> ssl.SSLContext | None:
    if trust is None:
        return None
    context = ssl.create_default_context()
    load_files(context, trust)
    return context


def load_files(context: ssl.SSLContext, trust: Trust) -> None:
    if trust.ca_file is not None:
        context.load_verify_locations(trust.ca_file)
    if trust.client_cert_file is not None:
        context.load_cert_chain(trust.client_cert_file, trust.client_key_file)
