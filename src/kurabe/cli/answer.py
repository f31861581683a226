"""What several commands need: an answer shown as it comes, and the line that says what it took."""

import sys
from typing import Any

import click

from kurabe.errors import printable
from kurabe.messages import Reply
from kurabe.models.base import Stream
from kurabe.models.conversation import Chat
from kurabe.models.request import Content
from kurabe.report.format import dollars, seconds

shown = printable
"""A text from outside as a command may write it, to a terminal or into a pipe."""


def answer_once(model: Chat, content: Content, **settings: Any) -> Reply:
    """Ask, and write the answer on standard output as it comes; in a pipe the answer and nothing else."""
    with model.stream(content, **settings) as stream:
        return show(stream)


def show(stream: Stream) -> Reply:
    """Write a streamed answer as it comes. In a terminal the model's thinking and a line of facts are dim beside it."""
    terminal = sys.stdout.isatty()
    thinking = wrote = False
    last = ""
    try:
        for delta in stream:
            if terminal and delta.reasoning:
                click.secho(shown(delta.reasoning), dim=True, nl=False)
                thinking, wrote, last = True, True, delta.reasoning
            if delta.text:
                text = shown(delta.text)
                click.echo(f"\n\n{text}" if thinking else text, nl=False)
                thinking, wrote, last = False, True, delta.text
            sys.stdout.flush()
    finally:
        if wrote and not last.endswith("\n"):
            click.echo()
    reply = stream.reply
    if terminal:
        click.secho(facts(reply), dim=True)
    return reply


def facts(reply: Reply) -> str:
    """`12 → 34 tokens · 0.8 s, first after 250 ms · $0.0012`, and why the answer ended where it is cut."""
    usage = reply.usage
    time = seconds(reply.seconds)
    if reply.first_seconds is not None:
        time = f"first after {seconds(reply.first_seconds)}, all after {time}"
    cost = "cost unknown" if reply.usd is None else dollars(reply.usd)
    ends = {"length": "cut at the token limit", "content_filter": "stopped by the content filter"}
    end = [ends[reply.finish_reason]] if reply.finish_reason in ends else []
    return " · ".join([f"{usage.input:,} → {usage.output:,} tokens", time, cost, *end])
