"""Fine-tuning: a model that learns from a task's training part."""
