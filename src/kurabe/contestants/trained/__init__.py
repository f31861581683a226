"""Contestants that learn from the rows: constants, linear models, trees, neighbours, boosting, stacks and blends."""
