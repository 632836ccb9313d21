"""Actor ``split``: documents in, one payload per section out (a fan-out).

Payload mode. The list that it returns becomes that many envelopes.
"""

import os
from typing import Dict, Iterator, List, Optional, Tuple

from digest.text import Fences, Payload, slug

#: The directory of the pipeline; ``path`` is read relative to it.
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

#: What a caller may choose for the later actors: default, lowest, highest.
_OPTIONS = {"keywords": (6, 1, 20), "sentences": (2, 1, 10)}


def split(payload: Optional[Payload]) -> List[Payload]:
    """Splits documents at their ``##`` headings.

    Input: ``{"path": "data"}`` (a directory of ``.md`` files inside the
    pipeline directory) or ``{"documents": [{"name": …, "text": …}]}``; both
    optional, ``path`` defaults to ``data``. The numbers ``keywords`` and
    ``sentences`` travel on with every section as its options.

    Output: a list of ``{"id", "document", "chapter", "title", "line",
    "text", "options"}``, in reading order.
    """
    request = {} if payload is None else payload
    if not isinstance(request, dict):
        raise ValueError(
            "expected an object such as {{\"path\": \"data\"}}, got {}".format(
                type(payload).__name__
            )
        )
    options = {name: _option(request, name) for name in _OPTIONS}
    found = []  # type: List[Payload]
    for name, text in _documents(request):
        for section in sections(name, text):
            section["options"] = dict(options)
            found.append(section)
    if not found:
        raise ValueError("the documents have no text to digest")
    return found


def sections(name: str, text: str) -> Iterator[Payload]:
    """The sections of one Markdown document; empty ones are left out.

    The text between the chapter's ``#`` heading and the first ``##`` is a
    section too and carries the title of the chapter.
    """
    stem = os.path.splitext(os.path.basename(name))[0]
    chapter = stem
    title, start, lines = chapter, 1, []  # type: Tuple[str, int, List[str]]
    used = {}  # type: Dict[str, int]
    fences = Fences()

    def close() -> Optional[Payload]:
        body = "\n".join(lines).strip("\n")
        if not body.strip():
            return None
        base = slug(title)
        used[base] = used.get(base, 0) + 1
        suffix = "" if used[base] == 1 else "-{}".format(used[base])
        return {
            "id": "{}/{}{}".format(stem, base, suffix),
            "document": name,
            "chapter": chapter,
            "title": title,
            "line": start,
            "text": "\n".join(lines),
        }

    for number, line in enumerate(text.splitlines(), start=1):
        in_code = fences.feed(line)
        if in_code or not line.startswith(("# ", "## ")):
            lines.append(line)
            continue
        done = close()
        if done is not None:
            yield done
        level, heading = line.split(" ", 1)
        title, start, lines = heading.strip(), number, []
        if level == "#":
            chapter = title
    done = close()
    if done is not None:
        yield done


def _option(request: Payload, name: str) -> int:
    default, low, high = _OPTIONS[name]
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(
            "{!r} must be a whole number from {} to {}, not {!r}".format(name, low, high, value)
        )
    return value


def _documents(request: Payload) -> Iterator[Tuple[str, str]]:
    documents = request.get("documents")
    if documents is None:
        for pair in _read_directory(request.get("path", "data")):
            yield pair
        return
    if not isinstance(documents, list):
        raise ValueError("'documents' must be a list of objects with 'name' and 'text'")
    for index, document in enumerate(documents):
        if not isinstance(document, dict) or not all(
            isinstance(document.get(key), str) for key in ("name", "text")
        ):
            raise ValueError(
                "'documents[{}]' must be an object with the strings 'name' and 'text'".format(index)
            )
        yield document["name"], document["text"]


def _read_directory(path: object) -> Iterator[Tuple[str, str]]:
    if not isinstance(path, str) or not path:
        raise ValueError("'path' must be the name of a directory, for example \"data\"")
    directory = os.path.realpath(os.path.join(ROOT, path))
    root = os.path.realpath(ROOT)
    # The caller of a tool chooses this path: it must not reach the rest of the disk.
    if directory != root and not directory.startswith(root + os.sep):
        raise ValueError("'path' must stay inside the pipeline directory: {!r}".format(path))
    if not os.path.isdir(directory):
        raise ValueError("'path' is not a directory of the pipeline: {!r}".format(path))
    names = sorted(name for name in os.listdir(directory) if name.endswith(".md"))
    if not names:
        raise ValueError("no .md files in {!r}".format(path))
    for name in names:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            yield name, file.read()
