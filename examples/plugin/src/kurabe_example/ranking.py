"""A report format: one line a contestant."""

from kurabe import Board


def ranking(board: Board) -> str:
    ranked = [row for row in board.rows if row.score is not None]
    return "".join(f"{row.rank} {row.contestant} {row.score:.4g}\n" for row in ranked)


ranking.ending = "txt"
