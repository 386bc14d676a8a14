"""For the tests of platforms and sinks, also of those that other packages bring; the product itself never imports it.

`platforms` and `sinks` hold the contract suites: classes of pytest tests (with pytest-asyncio in its mode `auto`) that the tests
of a plug-in subclass. `clock` is simulated time, `poller` a polling loop without a ledger, `ledger` a temporary ledger and
`faults` what goes wrong at an HTTP server on purpose. CONTRIBUTING.md has a complete example.
"""
