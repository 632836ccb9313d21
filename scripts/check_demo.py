"""Checks what the document pipeline made of its documents: check_demo.py STATE_DIR RESULTS.jsonl

Everything must have been digested except one section, which is damaged on purpose.
"""

import json
import sys
from pathlib import Path

SECTIONS = 124
DAMAGED = "a-damaged-section-on-purpose"


def main(state: Path, results: Path) -> int:
    lines = results.read_text(encoding="utf-8").splitlines()
    envelopes = [json.loads(line) for line in lines]
    failed = [envelope for envelope in envelopes if is_error(envelope["payload"])]

    problems = []
    if len(envelopes) != SECTIONS:
        problems.append(f"{len(envelopes)} final envelopes instead of {SECTIONS}")
    if len({envelope["id"] for envelope in envelopes}) != len(envelopes):
        problems.append("an id was printed twice")
    if len(failed) != 1:
        problems.append(f"{len(failed)} failed envelopes instead of 1")
    problems += [f"failed unexpectedly: {reason(one)}" for one in failed if DAMAGED not in reason(one)]
    for name, expected in (("happy-asya", SECTIONS - 1), ("error-asya", 1)):
        found = sum(1 for _ in (state / "results" / name).glob("**/*.json"))
        if found != expected:
            problems.append(f"{found} objects under results/{name} instead of {expected}")

    if problems:
        print("\n".join(f"demo: {problem}" for problem in problems), file=sys.stderr)
        return 1
    print(
        f"\ndemo: as expected, {SECTIONS - 1} sections digested and 1 refused by its handler: {reason(failed[0])}\n"
        f"demo: each result is a line of {results} and a file under {state / 'results'}",
        file=sys.stderr,
    )
    return 0


def is_error(payload) -> bool:
    """Error envelopes carry these two members; no digest does."""
    return isinstance(payload, dict) and "error" in payload and "original_payload" in payload


def reason(envelope) -> str:
    payload = envelope["payload"]
    return payload.get("details", {}).get("message") or payload["error"]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
