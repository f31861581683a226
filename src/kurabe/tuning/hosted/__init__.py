"""Fine-tuning at a provider: rows are checked and written, the cost is confirmed, a job is followed to its model."""
