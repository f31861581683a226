"""A provider: a row with the keys of kurabe's own table, for a gateway of one's own."""

PROVIDERS = {
    "example-gateway": {
        "title": "Example gateway",
        "protocol": "gateway_chat",
        "base_url": "http://127.0.0.1:8080/v1",
        "key": ["EXAMPLE_GATEWAY_KEY"],
        "without": ["top_k", "grammar", "prefill"],
    }
}
