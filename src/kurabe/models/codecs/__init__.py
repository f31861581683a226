"""Wire formats: pure functions between our messages and a provider's bytes. Nothing here opens a socket."""
