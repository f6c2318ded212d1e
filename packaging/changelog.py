"""CHANGELOG.md, in the form of https://keepachangelog.com/en/1.1.0/, and what a release makes of it."""

import re
from dataclasses import dataclass

KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
VERSION = r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)"
HEADING = re.compile(rf"## \[(?:(?P<unreleased>Unreleased)|(?P<version>{VERSION})\] - (?P<date>\d{{4}}-\d\d-\d\d))(?(unreleased)\])$")
REFERENCE = re.compile(r"\[([^\]]+)\]: \S+$")


class Malformed(Exception):
    """The file is not in the form; the text names the line."""


@dataclass
class Section:
    """A version's changes; the version is None for those that are not released."""

    version: str | None
    body: str

    def is_empty(self) -> bool:
        """Returns whether no change is listed."""
        return not re.search(r"^- ", self.body, re.M)


@dataclass
class Changelog:
    """The file in its parts."""

    preamble: str
    sections: list[Section]
    headings: list[str]
    references: list[str]

    @classmethod
    def parse(cls, text: str) -> "Changelog":
        """Reads the file, and refuses what is not in the form."""
        parts, kinds, lines = cls("", [], [], []), list[str](), text.splitlines()
        if lines[:1] != ["# Changelog"]:
            raise Malformed("CHANGELOG.md:1: the first line is '# Changelog'")
        for number, line in enumerate(lines, 1):
            where = f"CHANGELOG.md:{number}"
            if line.startswith("## "):
                heading = HEADING.match(line)
                if not heading:
                    raise Malformed(f"{where}: a version is '## [Unreleased]' or '## [1.2.3] - 2026-12-31'")
                if bool(heading["unreleased"]) == bool(parts.sections):
                    raise Malformed(f"{where}: Unreleased comes first, and once")
                if len(parts.sections) > 1 and key(str(parts.sections[-1].version)) <= key(heading["version"]):
                    raise Malformed(f"{where}: a later version comes before an earlier one")
                parts.sections.append(Section(heading["version"], ""))
                parts.headings.append(line)
                kinds = []
            elif line.startswith("### "):
                kind = line.removeprefix("### ")
                if kind not in KINDS or kind in kinds:
                    raise Malformed(f"{where}: the changes of a version are under {', '.join(KINDS)}, each once")
                if kinds and KINDS.index(kind) < KINDS.index(kinds[-1]):
                    raise Malformed(f"{where}: '{kind}' comes before '{kinds[-1]}'")
                kinds.append(kind)
            elif REFERENCE.match(line):
                parts.references.append(line)
                continue
            elif line.startswith("- ") and parts.sections and not kinds:
                raise Malformed(f"{where}: a change is under {', '.join(KINDS)}")
            if not parts.sections:
                parts.preamble += line + "\n"
            elif not line.startswith("## "):
                parts.sections[-1].body += line + "\n"
        names = [section.version or "Unreleased" for section in parts.sections]
        referred = [line[1 : line.index("]")] for line in parts.references]
        if names[:1] != ["Unreleased"]:
            raise Malformed("CHANGELOG.md: there is no '## [Unreleased]'")
        if referred != names:
            raise Malformed(f"CHANGELOG.md: at its end are links for {', '.join(names)}, in this order")
        return parts

    def release(self, version: str, date: str, repository: str) -> str:
        """Returns the file after a release of what was not released."""
        released = [Section(version, self.sections[0].body), *self.sections[1:]]
        headings = [f"## [{version}] - {date}", *self.headings[1:]]
        text = f"{self.preamble}## [Unreleased]\n\n"
        for heading, section in zip(headings, released):
            text += f"{heading}\n\n{section.body.strip()}\n\n"
        text += f"[Unreleased]: {repository}/compare/v{version}...HEAD\n"
        for newer, older in zip(released, [*released[1:], None]):
            way = f"compare/v{older.version}...v{newer.version}" if older else f"releases/tag/v{newer.version}"
            text += f"[{newer.version}]: {repository}/{way}\n"
        return text

    def notes(self) -> str:
        """Returns what is not released, as the text of a tag."""
        # In the text of a tag a line that begins with # is a comment.
        return re.sub(r"^#+ (.*)$", r"\1:", self.sections[0].body.strip(), flags=re.M)


def key(version: str) -> tuple[int, ...]:
    """Returns what versions are compared by."""
    return tuple(int(number) for number in version.split("."))
