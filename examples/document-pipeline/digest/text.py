"""Text helpers that several actors share: fences, words, sentences.

Pure functions, no state, no I/O.
"""

import re
from typing import Any, Dict, List, Optional

Payload = Dict[str, Any]

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)")
_WORD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9]*(?:[-_'][A-Za-z0-9]+)*")
_SENTENCE_END = re.compile(r"[.!?][\"')]*(?=\s+[A-Z0-9\"'(])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|no)|\b[A-Z])\.$")
_SPLIT_SPACE = re.compile(r"\s+")

# Words whose final "s" is not a plural, or whose singular is irregular.
_SINGULAR = {
    "always": "always",
    "caches": "cache",
    "kubernetes": "kubernetes",
    "news": "news",
    "series": "series",
}

# What the actors hand to each other and a reader of the result does not need.
_WORKING_FIELDS = ("options", "sentences", "tables")


class Fences:
    """Follows Markdown code fences line by line.

    ``feed`` says for each line whether it belongs to a code block (its two
    fence lines included), so that a ``#`` in a shell script is never taken
    for a heading.
    """

    def __init__(self) -> None:
        self.language = ""
        self._open: Optional[str] = None

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def feed(self, line: str) -> bool:
        match = _FENCE.match(line)
        if self._open is None:
            if match is None:
                return False
            self._open, self.language = match.group(1), match.group(2).lower()
            return True
        if match is not None and not match.group(2):
            fence = match.group(1)
            if fence[0] == self._open[0] and len(fence) >= len(self._open):
                self._open = None
        return True


def words(text: str) -> List[str]:
    """The words of ``text`` in lower case, plurals folded: ``queues`` -> ``queue``."""
    return [singular(match.group(0).lower()) for match in _WORD.finditer(text)]


def count_words(text: str) -> int:
    """How many words ``text`` has, numbers included, as a person would count."""
    return len(text.split())


def singular(word: str) -> str:
    """Folds the plural of a lower-case English word, cautiously."""
    if word.endswith("'s"):
        word = word[:-2]
    if word in _SINGULAR:
        return _SINGULAR[word]
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]


def sentences(paragraph: str) -> List[str]:
    """Splits one paragraph of plain text into sentences."""
    found = []  # type: List[str]
    start = 0
    for end in [match.end() for match in _SENTENCE_END.finditer(paragraph)] + [len(paragraph)]:
        piece = paragraph[start:end].strip()
        start = end
        if not piece:
            continue
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] += " " + piece
        else:
            found.append(piece)
    return found


def squeeze(text: str) -> str:
    """One line, single spaces."""
    return _SPLIT_SPACE.sub(" ", text).strip()


def slug(title: str) -> str:
    """A stable identifier made of a heading: ``Dead letters!`` -> ``dead-letters``."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def finished(payload: Payload, summary: str) -> Payload:
    """The payload as a reader wants it: with its summary, without working fields."""
    result = {key: value for key, value in payload.items() if key not in _WORKING_FIELDS}
    result["summary"] = summary
    return result
