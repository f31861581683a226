"""The contest: runner, journal, statistics, board, and the check for test rows among the training rows."""
