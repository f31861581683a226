"""Models of providers, asked over the network."""
