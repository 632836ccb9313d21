"""Actor ``triage``: sends each section where it needs to go.

Envelope mode: the handler sees the whole envelope and edits its route.
Actors already passed (up to and including this one) must stay as they are;
everything after them is free.
"""

import os
from typing import Any, Dict, List

from digest.text import finished

Envelope = Dict[str, Any]

#: Sections with fewer words are their own summary.
SHORT_WORDS = int(os.environ.get("TRIAGE_SHORT_WORDS", "80"))

CODE_ACTOR = "code-outline"
SUMMARY_ACTOR = "summarise"


def triage(envelope: Envelope) -> Envelope:
    """Edits ``envelope["route"]`` by what the payload holds, and returns the envelope.

    - A section with code visits ``code-outline`` next.
    - A short section skips ``summarise``; its text becomes its summary here.

    The decision is written into the payload as ``triage``, a list of reasons.
    """
    payload, route = envelope["payload"], envelope["route"]
    here = route["current"]
    done, ahead = route["actors"][: here + 1], route["actors"][here + 1 :]

    reasons = []  # type: List[str]
    if payload.get("code") and CODE_ACTOR not in ahead:
        ahead.insert(0, CODE_ACTOR)
        reasons.append("has code: outline it")
    if payload["counts"]["words"] < SHORT_WORDS and SUMMARY_ACTOR in ahead:
        ahead.remove(SUMMARY_ACTOR)
        payload = finished(payload, summary=" ".join(payload["sentences"]))
        reasons.append("short: is its own summary")

    payload["triage"] = reasons or ["ordinary prose"]
    envelope["payload"] = payload
    route["actors"] = done + ahead
    route["current"] = here + 1
    return envelope
