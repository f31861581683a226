"""A board as terminal table, HTML page, Markdown, SVG or notebook cell, and the progress of a run."""
