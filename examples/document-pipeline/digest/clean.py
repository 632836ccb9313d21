"""Actor ``clean``: the Markdown of one section to plain sentences and counts.

Payload mode. This is the actor that refuses damaged sections.
"""

import re
from typing import Any, Dict, List, Optional

from digest.text import Fences, Payload, count_words, sentences, squeeze

WORDS_PER_MINUTE = 220

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_STRONG = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_EMPHASIS = re.compile(r"(?<![\w*])([*_])(?=\S)([^*_]+?)(?<=\S)\1(?![\w*])")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_RULE = re.compile(r"^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_CELL_BORDER = re.compile(r"(?<!\\)\|")


def clean(payload: Payload) -> Payload:
    """Replaces ``text`` by what the later actors work on.

    Adds ``sentences`` (plain text), ``counts`` (words, sentences,
    code_lines, tables, reading_minutes), and, only where the section has
    any, ``code`` (``{"language", "source"}``) and ``tables`` (rows of
    cells). Raises ValueError, naming the section and the line, for a table
    row that does not fit its header and for a code block that never ends.
    """
    reader = _Reader(payload)
    reader.read(_without_comments(payload["text"]))
    result = {key: value for key, value in payload.items() if key != "text"}
    result["sentences"] = reader.sentences
    cells = [cell for table in reader.tables for row in table for cell in row]
    count = sum(count_words(text) for text in reader.sentences + cells)
    result["counts"] = {
        "words": count,
        "sentences": len(reader.sentences),
        "code_lines": sum(len(block["source"].splitlines()) for block in reader.code),
        "tables": len(reader.tables),
        "reading_minutes": round(count / WORDS_PER_MINUTE, 1),
    }
    if reader.code:
        result["code"] = reader.code
    if reader.tables:
        result["tables"] = reader.tables
    return result


def plain(markdown: str) -> str:
    """Inline Markdown to plain text; what stands in backticks is kept as it is."""
    pieces = markdown.split("`")
    for index in range(0, len(pieces), 2):
        piece = _LINK.sub(r"\1", _IMAGE.sub("", pieces[index]))
        piece = _STRONG.sub(r"\2", piece)
        pieces[index] = _EMPHASIS.sub(r"\2", piece)
    return squeeze("".join(pieces))


class _Reader:
    """Reads the blocks of one section, line by line."""

    def __init__(self, payload: Payload) -> None:
        self.sentences = []  # type: List[str]
        self.tables = []  # type: List[List[List[str]]]
        self.code = []  # type: List[Dict[str, Any]]
        self._payload = payload
        self._first_line = int(payload.get("line", 1))
        self._paragraph = []  # type: List[str]
        self._table = None  # type: Optional[List[List[str]]]

    def read(self, text: str) -> None:
        fences = Fences()
        block = []  # type: List[str]
        opened_at = 0
        # A section's text begins on the line after its heading.
        for number, line in enumerate(text.splitlines(), start=self._first_line + 1):
            was_open = fences.is_open
            if fences.feed(line):
                self._end_paragraph()
                self._end_table()
                if not was_open:
                    block, opened_at = [], number
                elif fences.is_open:
                    block.append(line)
                else:
                    self.code.append({"language": fences.language, "source": "\n".join(block)})
                continue
            self._text_line(number, line)
        if fences.is_open:
            raise self._damaged(opened_at, "this code block is never closed")
        self._end_paragraph()
        self._end_table()

    def _text_line(self, number: int, line: str) -> None:
        stripped = line.strip()
        if stripped.startswith("|"):
            self._end_paragraph()
            self._table_row(number, stripped)
            return
        self._end_table()
        if not stripped:
            self._end_paragraph()
        elif stripped.startswith("#"):
            self._end_paragraph()
            self.sentences.append(plain(stripped.lstrip("#")))
        elif _ITEM.match(line):
            self._end_paragraph()
            self._paragraph.append(_ITEM.sub("", line))
        else:
            self._paragraph.append(stripped.lstrip("> "))

    def _table_row(self, number: int, line: str) -> None:
        if self._table is None:
            self._table = []
        elif _RULE.match(line):
            return
        inner = line[1:]
        if inner.endswith("|") and not inner.endswith("\\|"):
            inner = inner[:-1]
        row = [plain(cell.replace("\\|", "|")) for cell in _CELL_BORDER.split(inner)]
        if self._table and len(row) != len(self._table[0]):
            raise self._damaged(
                number,
                "this table row has {} cells, its header has {}".format(
                    len(row), len(self._table[0])
                ),
            )
        self._table.append(row)

    def _end_paragraph(self) -> None:
        if self._paragraph:
            self.sentences.extend(sentences(plain(" ".join(self._paragraph))))
            self._paragraph = []

    def _end_table(self) -> None:
        if self._table is not None:
            self.tables.append(self._table)
            self._table = None

    def _damaged(self, number: int, what: str) -> ValueError:
        document, section = self._payload.get("document", "?"), self._payload.get("id", "?")
        return ValueError("{}, line {}, section {!r}: {}".format(document, number, section, what))


def _without_comments(text: str) -> str:
    """Blanks HTML comments but keeps their line breaks, so that line numbers stay true."""
    return _COMMENT.sub(lambda match: "\n" * match.group(0).count("\n"), text)
