"""Contestants that tune a language model on the rows."""
