#!/usr/bin/env python3
"""Makes chapters of the book out of the documents of this tree, wherever they lie.

Each text exists once, and its links work where it lies, as on GitHub. In the book all chapters lie in one
folder, so mdbook runs this as a preprocessor, which turns links

- to another document into links to its chapter;
- to a crate's `src/lib.rs` into links to its API;
- to a picture in `docs` into links to its copy in the book;
- to any other file or folder into links to the repository that `Cargo.toml` names.

A link that leads to nothing, or to a heading that is not there, is an error. `chapters.py check` only looks
for those, in all chapters, without mdbook.
"""

import json
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, Iterator

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SUMMARY = DOCS / "SUMMARY.md"

# What opens and closes a block of code; code in a line; the target of a link or a picture.
FENCE = re.compile(r"^ *(```+|~~~+)")
LINK = re.compile(r"(?P<code>(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`))|\]\((?P<target>[^()\s]+)\)", re.S)


class Broken(Exception):
    """A link leads nowhere."""


def chapters() -> dict[Path, str]:
    """Returns the documents that the summary names, each with the name of its page."""
    pages = {}
    for target in re.findall(r"\]\(([^)]+)\)", SUMMARY.read_text()):
        document = (DOCS / target).resolve()
        if not document.is_file():
            raise Broken(f"docs/SUMMARY.md: there is no {target}")
        pages[document] = page(document)
    return pages


def page(document: Path) -> str:
    """Returns the name of a document's page: that of its file, or of its folder for a README."""
    inside = document.relative_to(DOCS if document.is_relative_to(DOCS) else ROOT).with_suffix("")
    words = [word for word in inside.parts if word != "README"]
    return "-".join(words).lower() + ".md" if words else "index.md"


def prose(text: str) -> Iterator[tuple[bool, str]]:
    """Divides a text into parts: prose (true), and blocks of code with their fences (false)."""
    part: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        found = FENCE.match(line)
        if not fence and found:
            yield True, "".join(part)
            part, fence = [line], found[1]
        elif fence and line.strip() == fence:
            yield False, "".join([*part, line])
            part, fence = [], ""
        else:
            part.append(line)
    yield not fence, "".join(part)


def headings(text: str) -> set[str]:
    """Returns the anchors of a text's headings, as GitHub and mdbook name them."""
    anchors: set[str] = set()
    for is_prose, part in prose(text):
        for heading in re.findall(r"^#+ +(.*?) *#*$", part, re.M) if is_prose else []:
            shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
            anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
            number = 1
            unique = anchor
            while unique in anchors:
                unique = f"{anchor}-{number}"
                number += 1
            anchors.add(unique)
    return anchors


class Links:
    """Where the links of the documents lead in the book."""

    def __init__(self) -> None:
        self.pages = chapters()
        package = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
        self.repository: str | None = package.get("repository")

    def in_book(self, document: Path, text: str) -> str:
        """Returns a document's text with the links that it has in the book."""

        def replace(link: re.Match[str]) -> str:
            target = link["target"]
            return f"]({self.target(document, text, target)})" if target else link[0]

        parts = prose(text)
        return "".join(LINK.sub(replace, part) if is_prose else part for is_prose, part in parts)

    def target(self, document: Path, text: str, target: str) -> str:
        """Returns where a link of a document leads in the book."""
        if re.match(r"[a-z]+:", target):
            return target
        path, mark, anchor = target.partition("#")
        file = Path(os.path.normpath(document.parent / path)) if path else document
        where = f"{document.relative_to(ROOT)}: the link to {target}"
        if not file.exists():
            raise Broken(f"{where} leads to no file")
        if file in self.pages:
            if anchor and anchor not in headings(text if file == document else file.read_text()):
                raise Broken(f"{where} leads to no heading")
            return self.pages[file] + mark + anchor if path else target
        inside = file.relative_to(ROOT)
        if inside.parts[-2:] == ("src", "lib.rs"):
            return f"api/{library(file.parents[1])}/index.html"
        if file.suffix == ".svg" and file.is_relative_to(DOCS):
            return str(file.relative_to(DOCS))
        if self.repository is None:
            return "index.md"
        return f"{self.repository}/{'tree' if file.is_dir() else 'blob'}/main/{inside}"


def library(crate: Path) -> str:
    """Returns the name of a crate's library."""
    manifest = tomllib.loads((crate / "Cargo.toml").read_text())
    name: str = manifest.get("lib", {}).get("name") or manifest["package"]["name"]
    return name.replace("-", "_")


def change(items: list[dict[str, Any]], links: Links) -> None:
    """Changes the text, and the place, of each chapter of a book or of a chapter."""
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter and chapter["source_path"]:
            document = (DOCS / chapter["source_path"]).resolve()
            chapter["content"] = links.in_book(document, chapter["content"])
            chapter["path"] = links.pages[document]
            change(chapter["sub_items"], links)


def main(arguments: list[str]) -> None:
    """Is called by mdbook: as `supports RENDERER`, or with a book on standard input."""
    if arguments[:1] == ["supports"]:
        return
    links = Links()
    if arguments == ["check"]:
        for document in links.pages:
            links.in_book(document, document.read_text())
        print(f"{len(links.pages)} chapters, and no link that leads nowhere")
        return
    _, book = json.load(sys.stdin)
    change(book.get("items", book.get("sections")), links)
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Broken as why:
        sys.exit(str(why))
