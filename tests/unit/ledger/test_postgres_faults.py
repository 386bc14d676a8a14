"""What to do about a connection that a server refuses, by the words in which PostgreSQL 15 and pgbouncer 1.18 refuse it."""

import psycopg
import pytest

from collector.ledger.postgres.faults import refused

_TO = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ('FATAL:  too many connections for role "lineage"', "connection limit"),
        ('FATAL:  too many connections for database "lineage"', "connection limit"),
        ("FATAL:  sorry, too many clients already", "max_connections"),
        ("FATAL:  no more connections allowed (max_client_conn)", "max_client_conn"),
        ('FATAL:  permission denied for database "lineage"', "GRANT CONNECT"),
        ('FATAL:  database "lineage" is not currently accepting connections', "ALLOW_CONNECTIONS"),
        ('FATAL:  database "lineage" does not exist', "create the database"),
        ("FATAL:  no such database: lineage", "create the database"),
        ('FATAL:  role "lineage" does not exist', "check the user"),
        ('FATAL:  role "lineage" is not permitted to log in', "LOGIN"),
        ("FATAL:  SASL authentication failed", "ledger.password"),
        (
            'FATAL:  no pg_hba.conf entry for host "::1", user "lineage", database "lineage", no encryption',
            "pg_hba.conf",
        ),
        (
            'FATAL:  pg_hba.conf rejects connection for host "::1", user "a", database "b", SSL encryption',
            "pg_hba.conf",
        ),
        ("FATAL:  the database system is starting up", "wait"),
        ("FATAL:  the database system is shutting down", "wait"),
        ("FATAL:  the database system is in recovery mode", "wait"),
        ("SSL error: certificate verify failed", "expired"),
        ('server certificate for "db.example" does not match host name "localhost"', "that name"),
        ("FATAL:  connection requires a valid client certificate", "sslcert"),
        ('private key file "/client.key" has group or world access; file must have permissions u=rw (0600)', "sslkey"),
        ("FATAL:  unsupported startup parameter: options", "check the parameters"),
        ("Connection refused", "check that it runs"),
    ],
)
def test_the_remedy_fits_what_the_server_said(said: str, remedy: str) -> None:
    words = str(refused("ledger db, schema lineage", psycopg.OperationalError(_TO + said)))
    assert words.startswith(f"ledger db, schema lineage cannot be reached: {_TO}{said}; ")
    assert remedy in words.rpartition("; ")[2]
