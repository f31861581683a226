"""kurabe chat: at a terminal, in a pipe, and its commands."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner, Result

from kurabe.cli.answer import facts, shown
from kurabe.cli.chat import _Chat, with_images
from kurabe.cli.default_model import default_model
from kurabe.cli.kept_chats import folder, keep
from kurabe.cli.line_editor import candidates
from kurabe.cli.main import cli
from kurabe.errors import InputError, KurabeError, ModelError
from kurabe.messages import Image, Reply, Text, Usage
from kurabe.models.conversation import Conversation
from kurabe.testing import Fault, ScriptedModel, Simulator

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63606060f80f00"
    "010401005fe5c34b0000000049454e44ae426082"
)


@pytest.fixture
def server() -> Iterator[Simulator]:
    with Simulator("vllm") as made:
        yield made


def call(server: Simulator, *args: str, text: str | bytes = "") -> Result:
    return CliRunner().invoke(cli, ["chat", f"openai@{server.url}:small", *args], input=text)


def test_in_a_pipe_the_answer_and_nothing_else(server: Simulator) -> None:
    result = call(
        server, "Say it:", "--system", "Be brief.", "--max-tokens", "5", "--temperature", "0.5", text="a\nb\n"
    )
    assert result.exit_code == 0, result.output
    assert result.output == "Say it:\n\na\nb\n"
    sent = server.requests[0].json
    assert sent["messages"][1]["content"] == "Say it:\n\na\nb"  # a text by itself: some servers take no lists of parts
    assert (sent["stream"], sent["max_tokens"], sent["temperature"]) == (True, 5, 0.5)
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert call(server, text="only the pipe").output == "only the pipe\n"
    assert call(server, "only the text").output == "only the text\n"


def test_an_image_by_its_path_or_through_the_pipe(server: Simulator, tmp_path: Path) -> None:
    (tmp_path / "a cat.png").write_bytes(PNG)
    assert call(server, f'What is "{tmp_path}/a cat.png"?').exit_code == 0
    assert call(server, "What is this?", text=PNG).exit_code == 0
    for request in server.requests:
        kinds = [part["type"] for part in request.json["messages"][0]["content"]]
        assert kinds == ["text", "image_url"]


def test_paths_in_a_message(tmp_path: Path) -> None:
    (tmp_path / "a cat.png").write_bytes(PNG)
    (tmp_path / "b.JPG").write_bytes(PNG)
    (tmp_path / "no.png").write_bytes(b"GIF?")
    text = f"see {tmp_path}/a\\ cat.png, and '{tmp_path}/b.JPG' but not {tmp_path}/c.png or d.png"
    parts = with_images(text.replace(",", " ,"))
    assert [getattr(part, "name", None) for part in parts[1:]] == ["a cat.png", "b.JPG"]
    with pytest.raises(InputError, match=r"no\.png is no PNG"):
        with_images(f"see {tmp_path}/no.png")
    assert with_images("it's \"quoted") == [Text("it's \"quoted")]
    for odd in ("see ~nosuchuser/a.png", f"see {'a' * 300}.png", "see a\0.png"):
        assert with_images(odd) == [Text(odd)]


@pytest.mark.parametrize(
    ("args", "text", "says"),
    [
        ((), "", "nothing to say"),
        (("x",), b"\xff\xfe\x00junk", "no UTF-8 text and no image"),
    ],
)
def test_input_that_is_none(server: Simulator, args: tuple[str, ...], text: str | bytes, says: str) -> None:
    result = call(server, *args, text=text)
    assert isinstance(result.exception, InputError)
    assert says in str(result.exception)


def test_bad_references_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("KURABE_NO_KEYRING", "1")
    for reference, says in {
        "opnai:gpt": "did you mean 'openai'",
        "openai": "no provider before a ':'",
        "openai:": "no name after 'openai:'",
        "openai:gpt?regoin=x": "'regoin'",
        "openai@localhost:x": "after 'openai@'",
        "openai:gpt-5.1": "set OPENAI_API_KEY in the environment, or run: kurabe keys set openai",
    }.items():
        result = CliRunner().invoke(cli, ["chat", reference, "hi"])
        assert isinstance(result.exception, KurabeError), reference
        assert says in str(result.exception)


def test_a_context_too_long_says_by_how_much() -> None:
    said = "This model's maximum context length is 100 tokens. However, your messages resulted in 142 tokens."
    with Simulator("vllm", faults=Fault.status(400, said)) as server:
        result = call(server, "hello")
    assert isinstance(result.exception, ModelError)
    assert "42 tokens too many (142 of 100)" in str(result.exception)


def test_an_answer_cut_short_is_shown_and_is_an_error() -> None:
    with Simulator("vllm", answer="one two three four five six", faults=Fault.end()) as server:
        result = call(server, "hello")
    assert result.stdout.startswith("one")
    assert isinstance(result.exception, ModelError)


# ── the commands of a conversation ───────────────────────────────────────────────────────────────────────────────────


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel(["first", "second"], usd=0.01)
    talk = _Chat(Conversation(model))
    (tmp_path / "cat.png").write_bytes(PNG)
    assert talk.take("/system Be brief.") is False
    talk.take(f"/image {tmp_path / 'cat.png'}")
    talk.take("What is this?")
    talk.take("And now?")
    assert [message.role for message in model.requests[1].messages] == ["system", "user", "assistant", "user"]
    assert isinstance(model.requests[0].messages[1].parts[1], Image)
    assert len(model.requests[1].messages[-1].parts) == 1  # the image went once
    talk.take("/cost")
    assert "$0.02" in capsys.readouterr().out
    talk.take(f"/save {tmp_path / 'talk.jsonl'}")
    assert Conversation.load(model, tmp_path / "talk.jsonl").messages == talk.conversation.messages
    with Simulator("vllm") as server:
        talk.take(f"/model openai@{server.url}:other")
        assert model.closed
        talk.take("echo this")
        assert len(server.requests[0].json["messages"]) == 6
    assert "echo this" in capsys.readouterr().out
    talk.take("/system")
    assert talk.conversation.system is None
    assert talk.take("/quit") is True


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    talk = _Chat(Conversation(ScriptedModel(["x"])))
    talk.take("/help")
    said = capsys.readouterr().out
    assert [name for name in talk.commands if name not in said] == []


def test_a_mistake_leaves_the_conversation_as_it_was(tmp_path: Path) -> None:
    model = ScriptedModel(["x"])
    talk = _Chat(Conversation(model))
    (tmp_path / "notes.txt").write_text("no image")
    for line, says in {
        "/modle x": "did you mean '/model'",
        f"/image {tmp_path / 'notes.txt'}": "is no PNG",
        "/image": "/image PATH",
        "/save": "/save FILE",
        "/model opnai:x": "did you mean 'openai'",
    }.items():
        with pytest.raises(KurabeError, match=says):
            talk.take(line)
    assert talk.conversation.messages == ()
    assert talk.conversation.model is model
    assert not model.closed
    talk.take("/usr/bin is a folder, is it not?")  # no command
    assert model.calls == 1


def test_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {"/save": None, "/system": None, "/model": ["openai", "ollama"]}
    assert candidates("/s", "/s", commands) == ["/save ", "/system "]
    assert candidates("/model o", "o", commands) == ["openai:", "ollama:"]
    (tmp_path / "cats").mkdir()
    (tmp_path / "cat.png").touch()
    monkeypatch.chdir(tmp_path)
    assert candidates("look at ca", "ca", commands) == ["cat.png", "cats/"]


def test_a_terminal_is_sent_no_control_characters() -> None:
    assert shown("a\x1b]0;title\x07b\r\nc\td\u202e\ud800") == "a]0;titleb\nc\td"


def test_facts() -> None:
    reply = Reply("", "length", Usage(1200, 34), None, 0.8, 0.25)
    assert facts(reply) == (
        "1,200 → 34 tokens · first after 250 ms, all after 800 ms · cost unknown · cut at the token limit"
    )


# ── kept conversations and the default model ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def kept_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kept conversations, of this test's own."""
    monkeypatch.delenv("KURABE_NO_HISTORY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return folder()


def test_the_last_conversation_is_continued(server: Simulator, kept_in: Path) -> None:
    talk = Conversation(server.open("small"), "Be brief.")
    talk.chat("My name is Ann.")
    keep(talk, kept_in / "1.jsonl")
    assert (kept_in.stat().st_mode & 0o777, (kept_in / "1.jsonl").stat().st_mode & 0o777) == (0o700, 0o600)
    result = call(server, "-c", "And now?")
    assert result.output == "And now?\n", result.exception
    sent = [message["content"] for message in server.requests[-1].json["messages"]]
    assert sent == ["Be brief.", "My name is Ann.", "My name is Ann.", "And now?"]
    call(server, "--continue", "And then?")
    assert len(server.requests[-1].json["messages"]) == 6
    assert [path.name for path in kept_in.iterdir()] == ["1.jsonl"]


def test_nothing_is_kept_of_pipes_or_where_the_user_wants_none(server: Simulator, kept_in: Path) -> None:
    call(server, "hello")
    assert not kept_in.exists()
    result = call(server, "-c", "hello")
    assert "no earlier conversation to continue" in str(result.exception)


def test_without_a_reference_the_default_model_answers(
    server: Simulator, kept_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kurabe.cli.default_model.downloaded", lambda engine: [])
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    result = CliRunner().invoke(cli, ["chat", "Hello there"])
    assert "name a model, or set KURABE_MODEL. There is a key for openai" in str(result.exception)
    assert "kurabe pull smollm2-135m" in str(result.exception)
    monkeypatch.setenv("KURABE_MODEL", f"openai@{server.url}:small")
    assert CliRunner().invoke(cli, ["chat", "Hello there"]).output == "Hello there\n"
    assert "Hello again" in CliRunner().invoke(cli, ["ask", "Hello again"]).output
    monkeypatch.delenv("KURABE_MODEL")
    keep(Conversation(server.open("small")), kept_in / "1.jsonl")
    assert default_model() == server.open("small").reference


def test_a_text_without_quotes_is_told(server: Simulator) -> None:
    result = call(server, "Hello", "there")
    assert "put the text in quotes" in str(result.exception)


def test_history_lists_and_continues(server: Simulator, kept_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, text in enumerate(("First \x1b]0;title\x07words", "Second words"), 1):
        talk = Conversation(server.open("small"))
        talk.chat(text)
        keep(talk, kept_in / f"{number}.jsonl")
        os.utime(kept_in / f"{number}.jsonl", (number, number))
    (kept_in / "3.jsonl").write_text("damaged")
    chat = _Chat(Conversation(server.open("small")), kept_in / "4.jsonl")
    chat.take("/history")
    listed = capsys.readouterr().out
    assert listed.index("Second words") < listed.index("First ]0;titlewords")
    chat.take("/history 2")
    assert "assistant: First" in capsys.readouterr().out
    chat.take("And now?")
    assert len(Conversation.load(None, kept_in / "1.jsonl").messages) == 4
    assert not (kept_in / "4.jsonl").exists()
    with pytest.raises(InputError, match="/history lists them"):
        chat.take("/history 7")


# ── at a terminal ────────────────────────────────────────────────────────────────────────────────────────────────────


class Terminal:
    """A kurabe in a terminal of its own."""

    def __init__(self, *args: str) -> None:
        self.mine, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        command = [sys.executable, "-m", "kurabe", *args]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
        )
        os.close(theirs)
        self.said = ""

    def type(self, text: str) -> None:
        os.write(self.mine, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def wait_for(self, text: str, seconds: float = 20) -> str:
        """What was said since the last wait, up to `text`."""
        end = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < end, f"{text!r} did not come: {self.said!r}"
            assert self.read() or text in self.said, self.said
        before, _, self.said = self.said.partition(text)
        return before + text

    def ended(self) -> int:
        """The exit code; what is still said until then is read, or the process could not go on."""
        end = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
        return self.process.wait(1)

    def read(self) -> bool:
        """Read what is there; False where nothing will come any more."""
        if select.select([self.mine], [], [], 0.05)[0]:
            try:
                self.said += os.read(self.mine, 65536).decode("utf-8", "replace")
            except OSError:  # the other side has closed it
                return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.mine)


def test_a_conversation_at_a_terminal(kept_in: Path) -> None:
    many = " ".join(f"w{n}" for n in range(2000))
    with Simulator("vllm", answer=lambda text: many if text == "go on" else f"<{text}>", pace=0.002) as server:
        with Terminal("chat", f"openai@{server.url}:small") as terminal:
            terminal.wait_for("> ")
            terminal.type("hello\n")
            terminal.wait_for("<hello>")
            assert "tokens" in terminal.wait_for("cost unknown")
            terminal.wait_for("> ")
            terminal.type("go on\n")
            terminal.wait_for("w40")
            terminal.interrupt()
            said = terminal.wait_for("stopped")
            assert "w1999" not in said
            terminal.wait_for("> ")
            terminal.type("again\n")
            terminal.wait_for("<again>")
            terminal.wait_for("> ")
            terminal.type("\x04")
            assert terminal.ended() == 0
        assert [m["content"] for m in server.requests[-1].json["messages"]][0::2] == ["hello", "again"]
        with Terminal("chat", "-c") as terminal:
            assert "4 earlier messages" in terminal.wait_for("> ")
            terminal.type("once more\n")
            terminal.wait_for("<once more>")
        assert len(server.requests[-1].json["messages"]) == 5


def test_ctrl_c_twice_at_the_prompt_leaves() -> None:
    with Simulator("vllm") as server, Terminal("chat", f"openai@{server.url}:small") as terminal:
        terminal.wait_for("> ")
        for _ in range(20):  # readline misses a signal in the moment between its prompt and its waiting
            time.sleep(0.5)
            terminal.read()
            if terminal.process.poll() is not None:
                break
            terminal.interrupt()
        assert terminal.ended() == 0
        assert "Ctrl-C again" in terminal.said


def test_answers_side_by_side_at_a_terminal() -> None:
    with (
        Simulator("vllm", pace=0.05) as one,
        Simulator("vllm", faults=Fault.status(400, "nope")) as two,
        Terminal("ask", f"openai@{one.url}:a", f"openai@{two.url}:b", "side by side") as terminal,
    ):
        assert "╭" in terminal.wait_for("nope")
        assert terminal.ended() == 0
