"""The contestants: baselines, trained, prompted and tuned models, people; with registry, saving and checks."""
