"""The text of a web page: what a reader sees of it, without menus, scripts and markup."""

import codecs
import re
import subprocess
import sys
from email.message import Message

import msgspec
from selectolax.lexbor import LexborHTMLParser, LexborNode

from kurabe.errors import DownloadError
from kurabe.models.hosted.transport.page import Page
from kurabe.models.memory_limit import limit_memory

SMALL = 50_000
"""Bytes of a page that is read in this process, whatever is in it: some tenths of a second."""
SECONDS = 20.0
MEMORY = 800_000_000
"""Bytes that reading a larger page may take."""
_REFUSED = 3
DEEPEST = 2_000
"""Nested blocks. Browsers stop at some 500, and the parser's time grows with the square."""
MOST_NAMES = 10_000
"""Different names of attributes in a page, which has some hundreds. The parser's time grows with their square."""
NOISE = (
    "script, style, noscript, template, svg, math, iframe, object, canvas, nav, footer, aside, form, button, select,"
    " dialog, menu, body > header, [hidden], [aria-hidden=true], [role=navigation], [role=banner], [role=contentinfo],"
    " [role=search]"
)
BLOCKS = (
    "address, article, blockquote, br, dd, details, div, dl, dt, figcaption, figure, h1, h2, h3, h4, h5, h6, header,"
    " hr, li, main, ol, p, pre, section, summary, table, tr, ul"
)
MAIN = "main, [role=main], article"
SHARE = 0.3
"""The main part must hold this share of the page's text; else the whole page is taken."""
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_BLOCK_TAG = re.compile(
    r"<(/?)(?:address|article|aside|blockquote|center|details|dialog|dir|div|dl|fieldset|figcaption|figure|footer|form"
    r"|header|hgroup|listing|main|menu|nav|ol|pre|search|section|summary|table|ul)\b",
    re.IGNORECASE,
)
_COMMENT_OR_TAG = re.compile(r"<!--(?:-?>|.*?(?:--!?>|\Z))|<([a-z][^\s/>]*+)", re.IGNORECASE | re.DOTALL)
_ATTRIBUTE = re.compile(
    r"[\s/]*+([^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z)|[^\s>\"'][^\s>]*+)?)?"
)
_RAW_ENDS = {
    name: re.compile(rf"</{name}\b", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}
"""Where elements end in which the parser takes tags for text."""


def page_text(page: Page) -> str:
    """The page's title and text, a line a block. Raises DownloadError where it is no text, or takes too much to read.

    A page that nests too deep or has too many names of attributes is refused before it is parsed. A large page is
    parsed by a process with limits, for the parser has other ways to take long.
    """
    return _page_text(page) if len(page.body) <= SMALL else _read_apart(page)


def _read_apart(page: Page) -> str:
    command = [sys.executable, "-P", "-m", "kurabe.cli.readable"]  # -P: no module of the current folder is imported
    try:
        done = subprocess.run(
            command, input=msgspec.msgpack.encode(page), capture_output=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise DownloadError(
            f"{page.url} takes more than {SECONDS:g} s to read; it was made to, or is damaged"
        ) from None
    if done.returncode == _REFUSED:
        raise DownloadError(done.stdout.decode())
    if done.returncode != 0:
        raise DownloadError(f"{page.url} can't be read: its parser crashes, or takes more memory than any page needs")
    return done.stdout.decode()


def _main_apart() -> None:
    """Read the page on standard input, within limits, and write its text."""
    limit_memory(MEMORY)
    page = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Page)
    try:
        text, code = _page_text(page), 0
    except DownloadError as error:
        text, code = str(error), _REFUSED
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.exit(code)


def _page_text(page: Page) -> str:
    kind = _header(page).get_content_type() if page.content_type else ""
    text = decode(page)
    if kind in ("text/html", "application/xhtml+xml") or (not kind and "<html" in text[:2000].lower()):
        return _html_text(text, page.url)
    if not kind or kind.startswith("text/") or kind.endswith(("json", "xml")):
        return text.strip()
    raise DownloadError(f"{page.url} is {kind}, no page of text; only HTML and plain text can be read")


def decode(page: Page) -> str:
    """The body by its byte order mark, the header's charset, the page's own `<meta>`, UTF-8, else Windows-1252."""
    for mark, name in _BOMS.items():
        if page.body.startswith(mark):
            return page.body[len(mark) :].decode(name, "replace")
    said = str(_header(page).get_param("charset") or "")
    found = _META.search(page.body[:4096])
    for name in (said, found[1].decode("ascii") if found else "", "utf-8"):
        try:
            return page.body.decode(_html_charset(name))
        except (LookupError, UnicodeError):
            continue
    return page.body.decode("cp1252", "replace")


def _html_text(html: str, url: str) -> str:
    depth = 0
    for tag in _BLOCK_TAG.finditer(html):
        depth += -1 if tag[1] else 1
        if depth > DEEPEST:
            raise DownloadError(f"{url} can't be read: its elements are nested more than {DEEPEST:,} deep")
    if _has_too_many_names(html):
        raise DownloadError(f"{url} can't be read: it has more than {MOST_NAMES:,} different names of attributes")
    tree = LexborHTMLParser(html)
    title = tree.css_first("title")
    body = tree.body
    if body is None:
        return ""
    for node in body.css(NOISE):
        node.decompose()
    for node in body.css(BLOCKS):
        node.insert_before("\n")
        node.insert_after("\n")
    for node in body.css("td, th"):
        node.insert_after(" ")
    text = _lines(_main(body).text())
    name = _lines(title.text()).replace("\n", " ") if title is not None else ""
    return f"{name}\n\n{text}" if name and not text.startswith(name) else text


def _has_too_many_names(html: str) -> bool:
    """Whether the tags have more than MOST_NAMES different names of attributes; takes time in proportion to the text.

    It reads tags as the HTML standard's tokenizer does (https://html.spec.whatwg.org/#tokenization), but doesn't know
    the elements around them, so markup that is made to deceive it can.
    """
    names: set[str] = set()
    at = 0
    while (opening := _COMMENT_OR_TAG.search(html, at)) is not None:
        at = opening.end()
        if (tag := opening[1]) is None:  # a comment
            continue
        while (attribute := _ATTRIBUTE.match(html, at)) is not None:
            at = attribute.end()
            names.add(attribute[1].lower())
            if len(names) > MOST_NAMES:
                return True
        if (end := _RAW_ENDS.get(tag.lower())) is not None:
            closing = end.search(html, at)
            at = closing.start() if closing is not None else len(html)
    return False


def _main(body: LexborNode) -> LexborNode:
    """The largest main part or article, where it holds enough of the page; else all of it."""
    parts = body.css(MAIN)
    largest = max(parts, key=lambda part: len(part.text()), default=body)
    return largest if len(largest.text()) >= SHARE * len(body.text()) else body


def _lines(text: str) -> str:
    """Each line with its runs of space as one, and no empty lines."""
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _header(page: Page) -> Message:
    message = Message()
    message["content-type"] = page.content_type or "application/octet-stream"
    return message


def _html_charset(name: str) -> str:
    """A charset as browsers take it: ISO 8859-1 and ASCII mean Windows-1252 (https://encoding.spec.whatwg.org/)."""
    known = codecs.lookup(name).name
    if known in ("iso8859-1", "ascii"):
        return "cp1252"
    if known in ("utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "unicode-escape"):
        raise LookupError(name)
    return known


if __name__ == "__main__":
    _main_apart()
