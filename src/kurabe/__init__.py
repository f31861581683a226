"""kurabe: a contest side by side."""
