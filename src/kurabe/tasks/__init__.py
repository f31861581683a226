"""Tasks: the task file, data sources, splits, templates, reading of answers, and metrics."""
