"""What every test may ask for: the real servers, started when the first test needs one."""

pytest_plugins = ["tests.servers.helm", "tests.servers.kafka", "tests.servers.podman", "tests.servers.prometheus"]
