"""A line typed at the terminal, with history and completion where Python has readline."""

import os
from collections.abc import Callable, Mapping, Sequence
from glob import escape, glob


def line_editor(commands: Mapping[str, Sequence[str] | None]) -> Callable[[str], str]:
    """A function that asks for a line. Tab completes `commands`, and behind one its words, or paths where it has None.

    Earlier lines are those of this process.
    """
    try:
        import readline
    except ImportError:  # Windows
        return input

    def complete(text: str, state: int) -> str | None:
        found = candidates(readline.get_line_buffer(), text, commands)
        return found[state] if state < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n")
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    return input


def candidates(line: str, word: str, commands: Mapping[str, Sequence[str] | None]) -> list[str]:
    """What may stand at the end of `line` in place of `word`, its last one.

    >>> candidates("/sa", "/sa", {"/save": None}), candidates("/model op", "op", {"/model": ["openai", "ollama"]})
    (['/save '], ['openai:'])
    """
    if line == word and word.startswith("/"):
        return [f"{name} " for name in commands if name.startswith(word)]
    name = line.split(" ", 1)[0]
    words = commands.get(name)
    if words is not None:
        return [f"{option}:" for option in words if option.startswith(word)]
    found = sorted(glob(escape(os.path.expanduser(word)) + "*"))
    return [path + "/" if os.path.isdir(path) else path for path in found]
