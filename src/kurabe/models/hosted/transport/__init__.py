"""The only place with sockets: connections, retries, limits, budget, cache and telemetry."""
