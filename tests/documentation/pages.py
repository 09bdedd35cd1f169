"""Parses the Markdown pages of the documentation: code blocks, inline code, links and anchors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from running import REPOSITORY

PATTERNS = ("*.md", "docs/*.md", "datasets/README.md", "results/README.md", "examples/**/*.md")
HISTORY = "CHANGELOG.md"  # also names what was removed
PAGES = sorted(path for pattern in PATTERNS for path in REPOSITORY.glob(pattern))
CURRENT = [page for page in PAGES if page.name != HISTORY]
NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str  # empty: a listing of commands or of files
    text: str
    run: bool  # False below the comment `<!-- not run: REASON -->`

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@cache
def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> Iterator[Block]:
    found = tokens(page)
    for number, token in enumerate(found):
        if token.type in ("fence", "code_block"):
            before = found[number - 1]
            run = not (before.type == "html_block" and NOT_RUN.fullmatch(before.content))
            yield Block(page, token.map[0] + 1, token.info.strip(), token.content, run)


def inline(page: Path) -> Iterator[tuple[int, Token]]:
    """Yields line and token of links, images and `code` in the text."""
    line = 0
    for token in tokens(page):
        line = token.map[0] + 1 if token.map else line
        for child in token.children or ():
            yield line, child


def codes(page: Path) -> Iterator[tuple[int, str]]:
    return ((line, token.content) for line, token in inline(page) if token.type == "code_inline")


def links(page: Path) -> Iterator[tuple[int, str]]:
    for line, token in inline(page):
        if target := token.attrs.get("href", token.attrs.get("src")):
            yield line, str(target)


@cache
def anchors(page: Path) -> set[str]:
    """Returns the anchors that a repository browser derives from the headings."""
    made: dict[str, int] = {}
    found = tokens(page)
    for heading, content in zip(found, found[1:]):
        if heading.type == "heading_open":
            text = "".join(child.content for child in content.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            made[slug] = made.get(slug, -1) + 1
            if made[slug]:
                made[f"{slug}-{made[slug]}"] = 0
    return set(made)
