"""kurabe chat"""

import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kurabe.cli.answer import answer_once, show, shown
from kurabe.cli.default_model import default_model, is_reference
from kurabe.cli.kept_chats import keep, kept, last, new_path
from kurabe.cli.line_editor import line_editor
from kurabe.cli.main import Command
from kurabe.errors import InputError, KurabeError, missing
from kurabe.messages import Image, Part, Text
from kurabe.models import open_model
from kurabe.models.conversation import Conversation
from kurabe.models.providers import providers
from kurabe.models.reference import COMPATIBLE, is_local, local_schemes
from kurabe.report.format import count, dollars

LISTED = 20  # kept conversations that /history shows
LOCAL_TOKENS = 1024  # a small model may repeat itself until its context is full
_WORD = re.compile(r"\"([^\"]+)\"|'([^']+)'|((?:\\.|[^\s\"'])+)")
_PICTURE = re.compile(r".*\.(?:png|jpe?g|gif|webp)", re.IGNORECASE | re.DOTALL)


@click.command(cls=Command)
@click.argument("words", metavar="[REF] [TEXT]", nargs=-1)
@click.option("-c", "--continue", "continued", is_flag=True, help="Continue the last conversation.")
@click.option("--system", metavar="TEXT", help="What the model is told before everything else.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="The longest answer, in tokens (of a local model 1024).",
)
@click.option("--temperature", type=click.FloatRange(0, 2), metavar="T", help="0 to 2; higher is more varied.")
def command(
    words: tuple[str, ...], continued: bool, system: str | None, max_tokens: int | None, temperature: float | None
) -> None:
    """Talk with a model.

    Without TEXT a conversation: type /help in it. With TEXT, or in a pipe (cat f | kurabe chat REF "summarise"), one
    answer on standard output and nothing else. A path in a message that ends in .png, .jpg, .gif or .webp is sent as an
    image.

    Without REF the model in KURABE_MODEL answers, else that of the last conversation, else the smallest GGUF model on
    this machine. Conversations at a terminal are kept for -c; KURABE_NO_HISTORY=1 keeps none.
    """
    named, text = _named(words)
    earlier = last() if continued else None
    reference = named or (earlier.model if earlier else "") or default_model()
    if max_tokens is None and is_local(reference):
        max_tokens = LOCAL_TOKENS
    given = {"max_tokens": max_tokens, "temperature": temperature}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    piped = None if sys.stdin.isatty() else _piped()
    with open_model(reference) as model:
        talk = Conversation.load(model, earlier.path, **settings) if earlier else Conversation(model, **settings)
        talk.system = system or talk.system
        path = earlier.path if earlier else new_path() if sys.stdout.isatty() else None
        if text is None and piped is None:
            _Chat(talk, path).run()
            return
        content = [] if text is None else with_images(text)
        content += [] if piped is None or piped == Text("") else [piped]
        if not content:
            raise InputError("there is nothing to say: give a text, or pipe one in")
        answer_once(talk, _turn(content))
        if path is not None:
            keep(talk, path)


def _named(words: tuple[str, ...]) -> tuple[str | None, str | None]:
    """(reference, text) of the words of the command line, of which each may be missing."""
    if len(words) > 2:
        raise InputError(f"put the text in quotes: kurabe chat {words[0]} {' '.join(words[1:])!r}")
    if len(words) == 1:
        return (words[0], None) if is_reference(words[0]) else (None, words[0])
    return (words[0], words[1]) if words else (None, None)


def with_images(text: str) -> list[Part]:
    """The text, and the images whose paths stand in it. Raises InputError for a file that is no image."""
    words = [next(filter(None, found.groups())) for found in _WORD.finditer(text)]
    paths = [_file(re.sub(r"\\(.)", r"\1", word)) for word in words if _PICTURE.fullmatch(word)]
    return [Text(text), *(Image.from_path(path) for path in dict.fromkeys(paths) if path is not None)]


def _file(name: str) -> Path | None:
    """The file of that name; None if it doesn't exist or no file can have that name."""
    try:
        path = Path(name).expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, nobody's home, a NUL
        return None


def _turn(parts: list[Part]) -> str | list[Part]:
    """What is said at once: the texts as one, an empty line between them, and the images behind it."""
    text = "\n\n".join(part.text for part in parts if isinstance(part, Text))
    others: list[Part] = [part for part in parts if not isinstance(part, Text)]
    return text if not others else [Text(text), *others] if text else others


def _piped() -> Part:
    """What comes through the pipe: a text, or an image."""
    data = sys.stdin.buffer.read()
    try:
        return Text(data.decode("utf-8").strip())
    except UnicodeDecodeError:
        try:
            return Image.from_bytes(data)
        except InputError:
            raise InputError(f"standard input ({len(data):,} bytes) is no UTF-8 text and no image") from None


class _Chat:
    """A conversation at the terminal."""

    def __init__(self, conversation: Conversation, path: Path | None = None) -> None:
        self.conversation = conversation
        self.path = path
        self.images: list[Part] = []
        self.commands: dict[str, tuple[str, str, Callable[[str], Any]]] = {
            "/model": ("REF", "go on with another model", self.model),
            "/system": ("TEXT", "set the system text; without TEXT take it away", self.system),
            "/image": ("PATH", "send an image with the next message", self.image),
            "/save": ("FILE", "write the conversation as JSON lines", self.save),
            "/history": ("[N]", "list the kept conversations, or continue number N", self.history),
            "/cost": ("", "tokens and dollars so far", self.cost),
            "/help": ("", "this list", self.help),
            "/quit": ("", "leave (as does Ctrl-D)", lambda rest: True),
        }

    def run(self) -> None:
        """Until /quit, Ctrl-D, or Ctrl-C at an empty prompt twice."""
        turns = len(self.conversation.messages)
        earlier = f" · {count(turns, 'earlier message')}" if turns else ""
        reference = self.conversation.model.reference
        click.secho(f"{reference}{earlier} · /help lists the commands, Ctrl-D leaves", dim=True)
        schemes = [*(name for name in providers() if name != COMPATIBLE), *local_schemes()]
        read = line_editor({name: schemes if name == "/model" else None for name in self.commands})
        warned = False
        while True:
            try:
                line = read("> ").strip()
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.secho("" if warned else "\nCtrl-C again leaves, as does Ctrl-D.", dim=True)
                if warned:
                    return
                warned = True
                continue
            warned = False
            try:
                if line and self.take(line):
                    return
            except KeyboardInterrupt:
                click.secho("stopped; this turn is not kept, though the provider may count it", dim=True)
            except (KurabeError, OSError) as error:
                click.secho(str(error), fg="red", err=True)

    def take(self, line: str) -> bool:
        """Obey a command or answer a message; True to leave."""
        name, _, rest = line.partition(" ")
        if name in self.commands:
            return bool(self.commands[name][2](rest.strip()))
        if re.fullmatch(r"/[a-z]+", name):
            raise InputError(missing("command", name, self.commands))
        self.say(line)
        return False

    def say(self, text: str) -> None:
        content = _turn([*with_images(text), *self.images])
        with self.conversation.stream(content) as stream:
            show(stream)
        self.images = []
        if self.path is not None:
            keep(self.conversation, self.path)

    def model(self, reference: str) -> None:
        if reference:
            other = open_model(reference)
            self.conversation.model.close()
            self.conversation.model = other
        click.secho(f"model: {self.conversation.model.reference}", dim=True)

    def system(self, text: str) -> None:
        self.conversation.system = text or None
        click.secho("the system text is set" if text else "no system text", dim=True)

    def image(self, path: str) -> None:
        if not path:
            raise InputError("name a file: /image PATH")
        self.images.append(Image.from_path(Path(path.strip("\"'")).expanduser()))
        click.secho(f"{path} goes with the next message", dim=True)

    def save(self, path: str) -> None:
        if not path:
            raise InputError("name a file: /save FILE")
        file = Path(path).expanduser()
        self.conversation.save(file)
        click.secho(f"{count(len(self.conversation.messages), 'message')} in {file}", dim=True)

    def history(self, number: str) -> None:
        chats = list(itertools.islice(kept(), LISTED))
        if not number:
            for place, chat in enumerate(chats, 1):
                begins = shown(" ".join(chat.begins.split()))[:50]
                click.echo(f"  {place:>2}  {chat.changed:%Y-%m-%d %H:%M}  {shown(chat.model):<28} {begins}")
            click.secho("  /history N continues one" if chats else "  no conversation is kept yet", dim=True)
            return
        if not number.isdecimal() or not 1 <= int(number) <= len(chats):
            raise InputError(f"no conversation {number!r} is listed; /history lists them")
        chat = chats[int(number) - 1]
        earlier = self.conversation
        self.conversation = Conversation.load(earlier.model, chat.path, **earlier.settings)
        self.path = chat.path
        click.echo(shown(str(self.conversation)))

    def cost(self, _: str) -> None:
        usage, usd = self.conversation.usage, self.conversation.usd
        cached = f" ({usage.cached:,} of them cached)" if usage.cached else ""
        cost = "cost unknown" if usd is None else dollars(usd)
        click.secho(f"{usage.input:,} tokens in{cached}, {usage.output:,} out · {cost}", dim=True)

    def help(self, _: str) -> None:
        for name, (argument, what, _take) in self.commands.items():
            click.echo(f"  {f'{name} {argument}':<14} {what}")
        click.secho(
            "  Ctrl-C stops an answer. A path in a message that ends in .png, .jpg, .gif or .webp is sent as an image.",
            dim=True,
        )
