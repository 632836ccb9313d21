"""Writes ``data/model.json``: in how many sections each term occurs.

Run it in the pipeline directory after changing the documents::

    python3 -m digest.train

Not an actor. Sections that ``clean`` refuses are left out.
"""

import json
import os
from collections import Counter
from typing import Any, Dict, Optional

from digest.clean import clean
from digest.split import ROOT, split
from digest.text import Payload, words


def train(payload: Optional[Payload] = None) -> Dict[str, Any]:
    """The model of the documents that ``split`` finds for this payload."""
    sections = 0
    frequency = Counter()  # type: Counter
    for section in split(payload):
        try:
            cleaned = clean(section)
        except ValueError:
            continue
        text = [section["title"]] + cleaned["sentences"]
        text += [cell for table in cleaned.get("tables", []) for row in table for cell in row]
        frequency.update({word for line in text for word in words(line)})
        sections += 1
    # A term of a single section is as rare as an unknown one: leaving it out loses nothing much.
    common = {term: count for term, count in sorted(frequency.items()) if count > 1}
    return {"sections": sections, "frequency": common}


def main() -> None:
    path = os.path.join(ROOT, "data", "model.json")
    model = train()
    with open(path, "w", encoding="utf-8") as file:
        json.dump(model, file, indent=0, ensure_ascii=False)
        file.write("\n")
    print("{}: {} terms of {} sections".format(path, len(model["frequency"]), model["sections"]))


if __name__ == "__main__":
    main()
