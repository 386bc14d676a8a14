"""Requests readiness and metrics of the collector at argv[1]. Exit 0: both were there."""

import base64
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

PATIENCE = 120.0
TRUST = ssl.create_default_context()
TRUST.check_hostname, TRUST.verify_mode = (
    False,
    ssl.CERT_NONE,
)  # verifying the certificate is left to Prometheus


def read(url: str) -> str:
    request = urllib.request.Request(url)
    if user := os.environ.get("PAGES_USER"):
        credentials = f"{user}:{os.environ['PAGES_PASSWORD']}".encode()
        request.add_header("Authorization", f"Basic {base64.b64encode(credentials).decode()}")
    with urllib.request.urlopen(request, timeout=10, context=TRUST) as answer:
        return answer.read().decode()


def main(base: str) -> int:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            read(f"{base}/readyz")
            series = [line for line in read(f"{base}/metrics").splitlines() if line and not line.startswith("#")]
        except urllib.error.HTTPError as error:
            trouble = f"{error.url} answered {error.code}: {error.read(500).decode(errors='replace')}"
            if error.code in {401, 403}:
                print(f"{trouble}; check web.credentialsSecret")
                return 1
        except OSError as error:
            trouble = f"{base} cannot be reached: {error}"
        else:
            found = any(line.startswith("lineage_build_info") for line in series)
            print(
                f"{base} is ready and has {len(series)} series"
                if found
                else f"{base}/metrics belongs to another program"
            )
            return 0 if found else 1
        if time.monotonic() > deadline:
            print(trouble)
            return 1
        time.sleep(2)


sys.exit(main(sys.argv[1]))
