"""Actor ``keywords``: what a section is about.

A class handler that takes batches: the lexicon and the term model are read
once in each worker and serve every message after that, and one call gets
many sections. The same shape runs a neural network: load it in ``__init__``,
then make one forward pass for each batch.
"""

import json
import math
import os
from collections import Counter
from typing import Any, Dict, List, Set, Tuple

from digest.split import ROOT
from digest.text import Payload, words

_TITLE_BOOST = 2.0
_PHRASE_BOOST = 1.6
_SINGLE_PENALTY = 0.4


class KeywordModel:
    """Ranks words and two-word phrases by TF-IDF and picks a category.

    ``data/lexicon.json`` holds the stop words and the categories (term to
    weight); ``data/model.json`` says in how many sections of the training
    text each term occurs (``python3 -m digest.train`` writes it).
    """

    def __init__(self, directory: str = os.path.join(ROOT, "data")) -> None:
        lexicon = _load(os.path.join(directory, "lexicon.json"))
        model = _load(os.path.join(directory, "model.json"))
        self._stop_words = frozenset(lexicon["stop_words"])
        self._categories = lexicon["categories"]  # type: Dict[str, Dict[str, float]]
        self._topics = frozenset(term for terms in self._categories.values() for term in terms)
        self._sections = int(model["sections"])
        self._frequency = model["frequency"]  # type: Dict[str, int]

    def annotate(self, payloads: List[Payload]) -> List[Payload]:
        """Adds ``category`` (``{"name", "confidence"}``) and ``keywords`` (best first) to each payload.

        Each section is judged by itself: which others are in its batch changes
        nothing. What they share is the work that depends on a word alone: every
        term of the batch is looked up and weighed once.
        """
        sections = [_Section(payload) for payload in payloads]
        vocabulary = set()  # type: Set[str]
        vocabulary.update(*(section.vocabulary for section in sections))
        rarity = {term: self._rarity(term) for term in vocabulary if self._useful(term)}
        return [self._annotated(section, rarity) for section in sections]

    def _annotated(self, section: "_Section", rarity: Dict[str, float]) -> Payload:
        result = dict(section.payload)
        result["category"] = self._classify(section.title, section.lines)
        ranked = self._rank(section.title, section.lines, rarity)
        result["keywords"] = ranked[: section.payload["options"]["keywords"]]
        return result

    def _rank(
        self, title: List[str], lines: List[List[str]], rarity: Dict[str, float]
    ) -> List[str]:
        terms = Counter(word for line in lines + [title] for word in line if self._useful(word))
        phrases = Counter(pair for line in lines + [title] for pair in self._pairs(line))
        titled = set(title)
        scores = {}  # type: Dict[str, float]
        for word, count in terms.items():
            if count > 1:
                boost = _TITLE_BOOST if word in titled else 1.0
            elif word in self._frequency or word in self._topics:
                boost = 1.0 if word in titled else _SINGLE_PENALTY
            else:
                # Said once, here and nowhere else: an accident, not a subject.
                continue
            scores[word] = count * rarity[word] * boost
        for (first, second), count in phrases.items():
            if count < 2:
                continue
            together = (rarity[first] + rarity[second]) / 2
            boost = _TITLE_BOOST if titled.issuperset((first, second)) else 1.0
            scores[first + " " + second] = count * together * boost * _PHRASE_BOOST
        ranked = sorted(scores, key=lambda term: (-scores[term], term))
        return _without_overlap(ranked)

    def _classify(self, title: List[str], lines: List[List[str]]) -> Dict[str, Any]:
        counts = Counter(word for line in lines for word in line)
        counts.update({word: 3 for word in title})
        scores = [
            (sum(weight * counts[term] for term, weight in terms.items()), name)
            for name, terms in self._categories.items()
        ]
        total = sum(score for score, _ in scores)
        if not total:
            return {"name": "general", "confidence": 0.0}
        best, name = max(scores, key=lambda pair: pair[0])
        return {"name": name, "confidence": round(best / total, 2)}

    def _useful(self, word: str) -> bool:
        return len(word) > 2 and word not in self._stop_words

    def _pairs(self, line: List[str]) -> List[Tuple[str, str]]:
        return [
            (first, second)
            for first, second in zip(line, line[1:])
            if first != second and self._useful(first) and self._useful(second)
        ]

    def _rarity(self, term: str) -> float:
        return math.log(1 + self._sections / (1 + self._frequency.get(term, 0)))


class _Section:
    """The words of one payload."""

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.title = words(payload["title"])
        self.lines = [words(text) for text in payload["sentences"]]
        for table in payload.get("tables", []):
            self.lines += [words(cell) for row in table for cell in row]
        self.vocabulary = {word for line in self.lines + [self.title] for word in line}


def _without_overlap(ranked: List[str]) -> List[str]:
    """Drops a term whose every word is already said by a better one."""
    said = set()  # type: Set[str]
    kept = []  # type: List[str]
    for term in ranked:
        parts = term.split()
        if said.issuperset(parts):
            continue
        said.update(parts)
        kept.append(term)
    return kept


def _load(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)
