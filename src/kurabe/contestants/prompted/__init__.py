"""Contestants that ask a language model with a prompt."""
