"""Actor ``summarise``: the sentences that say most, in their own order.

Payload mode, extractive: no sentence is invented. A generator that streams
(``spec.runtime.stream``): what it yields is shown at once, and what it
returns goes on.
"""

from collections import Counter
from typing import Dict, Generator, Iterator, List

from digest.text import Payload, finished, words

_IDEAL_WORDS = 22


def summarise(payload: Payload) -> Generator[str, None, Payload]:
    """Yields each sentence of the summary, the best one first. Returns the payload with its
    ``summary``, in the order of the text, and without working fields.
    """
    taken = []  # type: List[int]
    lines = payload["sentences"]
    for index in best_first(lines, payload["keywords"], payload["options"]["sentences"]):
        taken.append(index)
        yield lines[index]
    return finished(payload, summary=" ".join(lines[index] for index in sorted(taken)))


def best_first(sentences: List[str], keywords: List[str], wanted: int) -> Iterator[int]:
    """The places of the ``wanted`` best sentences, the best one first.

    A sentence earns points for keywords (early ones count more) and for
    words that the section repeats; the opening and the closing sentence get
    a little extra, very short and very long ones get less. Once a sentence
    is taken, what it says counts half, so that the next one adds something.
    """
    tokens = [words(sentence) for sentence in sentences]
    weights = _weights(tokens, keywords)
    remaining = list(range(len(sentences)))
    for _ in range(min(wanted, len(sentences))):
        # The negated index prefers the earlier sentence on a tie.
        best = max(remaining, key=lambda i: (_score(i, tokens, weights), -i))
        remaining.remove(best)
        yield best
        for word in set(tokens[best]):
            weights[word] = weights.get(word, 0.0) / 2


def _weights(tokens: List[List[str]], keywords: List[str]) -> Dict[str, float]:
    counts = Counter(word for line in tokens for word in line if len(word) > 3)
    weights = {word: 0.2 * count for word, count in counts.items() if count > 1}
    for rank, keyword in enumerate(keywords):
        for word in keyword.split():
            weights[word] = weights.get(word, 0.0) + 2.0 / (1 + rank)
    return weights


def _score(index: int, tokens: List[List[str]], weights: Dict[str, float]) -> float:
    line = tokens[index]
    if not line:
        return 0.0
    content = sum(weights.get(word, 0.0) for word in set(line))
    length = min(1.0, len(line) / _IDEAL_WORDS) * min(1.0, 2 * _IDEAL_WORDS / len(line))
    position = 1.25 if index == 0 else 1.1 if index == len(tokens) - 1 else 1.0
    return round(content * length * position, 9)
