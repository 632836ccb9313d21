"""The whole corpus through all handlers, in one process, without a queue.

Run from anywhere::

    python3 -m unittest discover -s examples/document-pipeline/tests
"""

import importlib
import json
import os
import re
import subprocess
import sys
import unittest
from collections import Counter
from typing import Any, Callable, Dict, List, Tuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from digest import clean, code_outline, keywords, split, summarise, text, triage  # noqa: E402

ROUTE = ["split", "clean", "keywords", "triage", "summarise"]
SECTIONS = 124
BROKEN = "04-failure/a-damaged-section-on-purpose"

Payload = Dict[str, Any]


def through_json(value: Any) -> Any:
    """What a handler's result looks like to the next one; refuses what is not JSON."""
    return json.loads(json.dumps(value, allow_nan=False))


def one_by_one(batch_handler: Callable[[List[Any]], List[Any]]) -> Callable[[Any], Any]:
    """A batch handler as one that takes single payloads."""

    def handle(payload: Any) -> Any:
        (result,) = batch_handler([payload])
        return result

    return handle


def streamed(handler: Callable[[Any], Any], payload: Any) -> Tuple[List[Any], Any]:
    """What a streaming handler yields, and what it returns."""
    shown = []
    generator = handler(payload)
    while True:
        try:
            shown.append(next(generator))
        except StopIteration as stop:
            return shown, stop.value


class Pipeline:
    """Moves payloads along their routes the way the sidecars do."""

    def __init__(self) -> None:
        self._handlers = {
            "split": split.split,
            "clean": clean.clean,
            "keywords": one_by_one(keywords.KeywordModel().annotate),
            "summarise": lambda payload: streamed(summarise.summarise, payload)[1],
            "code-outline": code_outline.outline,
        }  # type: Dict[str, Callable[[Any], Any]]
        self.results = []  # type: List[Payload]
        self.errors = []  # type: List[Tuple[str, str, Payload, ValueError]]
        self.visited = []  # type: List[Tuple[str, ...]]

    def run(self, payload: Any) -> "Pipeline":
        waiting = [{"payload": payload, "route": {"actors": list(ROUTE), "current": 0}}]
        while waiting:
            envelope = waiting.pop()
            route = envelope["route"]
            if route["current"] >= len(route["actors"]):
                self.results.append(envelope["payload"])
                self.visited.append(tuple(route["actors"]))
                continue
            waiting.extend(reversed(self._step(envelope)))
        return self

    def _step(self, envelope: Payload) -> List[Payload]:
        route = envelope["route"]
        actor = route["actors"][route["current"]]
        if actor == "triage":
            before = route["actors"][: route["current"] + 1]
            after = through_json(triage.triage(through_json(envelope)))
            assert after["route"]["actors"][: len(before)] == before, "history was edited"
            return [after]
        try:
            answer = self._handlers[actor](through_json(envelope["payload"]))
        except ValueError as error:
            self.errors.append((actor, envelope["payload"].get("id"), envelope["payload"], error))
            return []
        items = answer if isinstance(answer, list) else [answer]
        following = {"actors": route["actors"], "current": route["current"] + 1}
        return [{"payload": through_json(item), "route": dict(following)} for item in items]


class WholeCorpus(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.sections = split.split({"path": "data"})
        cls.pipeline = Pipeline().run({"path": "data"})

    def test_every_section_is_accounted_for(self) -> None:
        ids = [section["id"] for section in self.sections]
        self.assertEqual(len(ids), SECTIONS)
        self.assertEqual(len(set(ids)), SECTIONS)
        done = [result["id"] for result in self.pipeline.results]
        self.assertEqual(sorted(done + [BROKEN]), sorted(ids))

    def test_exactly_one_section_fails_and_says_why(self) -> None:
        ((actor, section, _, error),) = self.pipeline.errors
        self.assertEqual((actor, section), ("clean", BROKEN))
        message = str(error)
        self.assertIn("04-failure.md, line 95, section", message)
        self.assertIn("has 2 cells, its header has 3", message)
        with open(os.path.join(ROOT, "data", "04-failure.md"), encoding="utf-8") as file:
            self.assertEqual(file.readlines()[94].strip(), "| recognition | 48 088 |")

    def test_the_failing_section_succeeds_once_repaired(self) -> None:
        payload = dict(self.pipeline.errors[0][2])
        payload["text"] = payload["text"].replace("48 088 |", "48 088 | 37 |")
        self.assertEqual(clean.clean(payload)["counts"]["tables"], 1)

    def test_results_are_complete_and_plausible(self) -> None:
        for result in self.pipeline.results:
            with self.subTest(section=result["id"]):
                self.assertTrue(result["title"] and result["chapter"] and result["summary"])
                self.assertLessEqual(1, len(result["keywords"]))
                self.assertLessEqual(len(result["keywords"]), 6)
                self.assertNotEqual(result["category"]["name"], "general")
                self.assertGreater(result["counts"]["words"], 10)
                for field in ("text", "sentences", "options", "tables"):
                    self.assertNotIn(field, result)

    def test_routes_follow_the_content(self) -> None:
        routes = Counter(route[4:] for route in self.pipeline.visited)
        self.assertEqual(
            routes,
            {
                ("summarise",): 91,
                ("code-outline", "summarise"): 19,
                ("code-outline",): 2,
                (): 11,
            },
        )
        for result, route in zip(self.pipeline.results, self.pipeline.visited):
            short = result["counts"]["words"] < triage.SHORT_WORDS
            self.assertEqual("code-outline" in route, "code" in result, result["id"])
            self.assertEqual("summarise" in route, not short, result["id"])

    def test_python_in_the_corpus_parses(self) -> None:
        for result in self.pipeline.results:
            for block in result.get("code", []):
                self.assertTrue(block["outline"], result["id"])
                self.assertNotIn("does not parse", block["outline"][0], result["id"])

    def test_categories_match_the_chapters_mostly(self) -> None:
        expected = {
            "02-delivery.md": "delivery",
            "04-failure.md": "failure",
            "05-flow.md": "flow",
            "08-storage.md": "storage",
            "11-testing.md": "testing",
        }
        judged = [
            result["category"]["name"] == expected[result["document"]]
            for result in self.pipeline.results
            if result["document"] in expected
        ]
        self.assertGreater(sum(judged) / len(judged), 0.8)

    def test_another_process_with_another_hash_seed_gives_the_same(self) -> None:
        program = (
            "import json, test_pipeline as t;"
            "print(json.dumps(t.Pipeline().run({'path': 'data'}).results, sort_keys=True))"
        )
        outputs = []
        for seed in ("1", "2"):
            environment = dict(os.environ, PYTHONHASHSEED=seed, PYTHONPATH=os.path.dirname(__file__))
            outputs.append(
                subprocess.check_output(
                    [sys.executable, "-c", program], env=environment, timeout=120
                )
            )
        self.assertEqual(outputs[0], outputs[1])
        self.assertEqual(json.loads(outputs[0].decode()), self.pipeline.results)


class Batches(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cleaned = []
        for section in split.split({"path": "data"}):
            try:
                cleaned.append(clean.clean(section))
            except ValueError:
                pass
        cls.cleaned = cleaned
        cls.model = keywords.KeywordModel()

    def test_a_section_does_not_depend_on_its_batch(self) -> None:
        alone = [self.model.annotate([section])[0] for section in self.cleaned]
        for size in (2, 16, len(self.cleaned)):
            batches = [self.cleaned[at : at + size] for at in range(0, len(self.cleaned), size)]
            together = [result for batch in batches for result in self.model.annotate(batch)]
            self.assertEqual(together, alone, "in batches of {}".format(size))

    def test_payloads_are_left_as_they_were(self) -> None:
        before = through_json(self.cleaned[:3])
        self.model.annotate(self.cleaned[:3])
        self.assertEqual(self.cleaned[:3], before)


class Streams(unittest.TestCase):
    PAYLOAD = {
        "id": "x",
        "title": "Queues",
        "sentences": ["Rain fell.", "A queue keeps messages until a queue is read.", "Messages wait."],
        "keywords": ["queue", "messages"],
        "options": {"sentences": 2},
    }

    def test_each_sentence_is_shown_and_the_section_goes_on(self) -> None:
        sentences, section = streamed(summarise.summarise, dict(self.PAYLOAD))
        self.assertEqual(len(sentences), 2)
        self.assertEqual(sentences[0], self.PAYLOAD["sentences"][1], "the best one first")
        in_order = [line for line in self.PAYLOAD["sentences"] if line in sentences]
        self.assertEqual(section["summary"], " ".join(in_order))
        self.assertEqual(set(section), {"id", "title", "keywords", "summary"})

    def test_a_section_with_few_sentences_gives_them_all(self) -> None:
        payload = dict(self.PAYLOAD, sentences=["Only this."], options={"sentences": 5})
        shown, section = streamed(summarise.summarise, payload)
        self.assertEqual((shown, section["summary"]), (["Only this."], "Only this."))
        shown, section = streamed(summarise.summarise, dict(payload, sentences=[]))
        self.assertEqual((shown, section["summary"]), ([], ""))


class Requests(unittest.TestCase):
    def test_documents_may_come_with_the_request(self) -> None:
        document = {"name": "note.md", "text": "# Note\n\nQueues wait.\n\n## Acks\n\nAck last.\n"}
        pipeline = Pipeline().run({"documents": [document], "keywords": 1})
        self.assertEqual([r["id"] for r in pipeline.results], ["note/note", "note/acks"])
        self.assertEqual([len(r["keywords"]) for r in pipeline.results], [1, 1])

    def test_nothing_at_all_means_the_corpus(self) -> None:
        self.assertEqual(len(split.split(None)), SECTIONS)

    def test_refusals_say_what_is_wrong(self) -> None:
        cases = [
            ("text", "expected an object"),
            ({"path": "../../.."}, "must stay inside"),
            ({"path": "/etc"}, "must stay inside"),
            ({"path": "no-such"}, "not a directory"),
            ({"path": "digest"}, "no .md files"),
            ({"path": 7}, "must be the name of a directory"),
            ({"documents": "x"}, "must be a list"),
            ({"documents": [{"name": "x"}]}, "documents[0]"),
            ({"documents": []}, "no text"),
            ({"keywords": 0}, "'keywords' must be a whole number from 1 to 20"),
            ({"sentences": True}, "'sentences' must be a whole number"),
        ]
        for payload, expected in cases:
            with self.subTest(payload=payload):
                with self.assertRaises(ValueError) as caught:
                    split.split(payload)
                self.assertIn(expected, str(caught.exception))


class Pieces(unittest.TestCase):
    def test_headings_inside_code_do_not_split(self) -> None:
        source = "# A\n\n## One\n\n```bash\n## not a heading\n```\n\n## One\n\ntext\n"
        found = list(split.sections("a.md", source))
        self.assertEqual([section["id"] for section in found], ["a/one", "a/one-2"])
        self.assertIn("## not a heading", found[0]["text"])
        self.assertEqual([section["line"] for section in found], [3, 9])

    def test_an_endless_code_block_is_refused(self) -> None:
        payload = {"id": "a/b", "document": "a.md", "line": 10, "text": "Text.\n```python\nx = 1"}
        with self.assertRaises(ValueError) as caught:
            clean.clean(payload)
        self.assertEqual(
            str(caught.exception), "a.md, line 12, section 'a/b': this code block is never closed"
        )

    def test_inline_markdown(self) -> None:
        self.assertEqual(
            clean.plain("A **bold** and *soft* [link](http://x) to `*.yaml` and snake_case_name"),
            "A bold and soft link to *.yaml and snake_case_name",
        )

    def test_tables_keep_escaped_bars(self) -> None:
        table = "| a | b |\n|---|---|\n| x \\| y | z |\n"
        cleaned = clean.clean({"id": "t", "document": "t.md", "line": 1, "text": table})
        self.assertEqual(cleaned["tables"], [[["a", "b"], ["x | y", "z"]]])

    def test_sentences(self) -> None:
        self.assertEqual(
            text.sentences('He said "stop." Nobody, e.g. Ann, did. 3 of 4 left! Why?'),
            ['He said "stop."', "Nobody, e.g. Ann, did.", "3 of 4 left!", "Why?"],
        )

    def test_words_fold_plurals(self) -> None:
        self.assertEqual(
            text.words("Queues, retries, caches; a process's batches 1e400 at-least-once"),
            ["queue", "retry", "cache", "a", "process", "batch", "at-least-once"],
        )

    def test_outlines_by_language(self) -> None:
        cases = [
            ("python", "import os\nclass A:\n    def f(self, *rest): pass\n",
             ["import os", "class A", "def A.f(self, *rest)"]),
            ("python", "def broken(:\n", ["does not parse"]),
            ("sql", "-- update\nCREATE TABLE t (a int);\nselect 1;", ["CREATE TABLE", "SELECT"]),
            ("yaml", "a: 1\nb:\n  c: 2\n", ["a", "b"]),
            ("bash", "# note\nfor x in $(seq 3); do\n  echo a \\\n | sort\ndone",
             ["seq", "echo", "sort"]),
            ("", "GET /health\nHost: x", ["GET /health"]),
        ]
        for language, source, expected in cases:
            with self.subTest(language=language):
                found = code_outline.describe(language, source)["outline"]
                if expected == ["does not parse"]:
                    self.assertTrue(found[0].startswith(expected[0]))
                else:
                    self.assertEqual(found, expected)

    def test_triage_twice_changes_nothing_more(self) -> None:
        payload = {"code": [{}], "counts": {"words": 500}, "sentences": []}
        route = {"actors": list(ROUTE), "current": 3, "metadata": {"kept": 1}}
        first = triage.triage({"id": "x", "payload": payload, "route": route})
        self.assertEqual(first["route"]["actors"], ROUTE[:4] + ["code-outline", "summarise"])
        self.assertEqual((first["route"]["current"], first["route"]["metadata"]), (4, {"kept": 1}))
        first["route"]["current"] = 3
        again = triage.triage(first)
        self.assertEqual(again["route"]["actors"], ROUTE[:4] + ["code-outline", "summarise"])


class Manifests(unittest.TestCase):
    """Text checks only: the standard library reads no YAML."""

    def test_handlers_exist_and_the_route_names_actors(self) -> None:
        with open(os.path.join(ROOT, "actors.yaml"), encoding="utf-8") as file:
            manifest = file.read()
        handlers = re.findall(r"name: ASYA_HANDLER\n\s+value: (\S+)", manifest)
        actors = re.findall(r"^metadata:\n  name: (\S+)", manifest, re.MULTILINE)
        self.assertEqual(len(handlers), len(actors))
        for handler in handlers:
            self.assertTrue(callable(_resolve(handler)), handler)
        with open(os.path.join(ROOT, "asya.yaml"), encoding="utf-8") as file:
            (route,) = re.findall(r"^    route: \[(.*)\]$", file.read(), re.MULTILINE)
        self.assertEqual(route.split(", "), ROUTE)
        self.assertEqual(set(actors), set(ROUTE) | {triage.CODE_ACTOR})


def _resolve(handler: str) -> Any:
    """The longest importable prefix is the module, the rest are attributes."""
    parts = handler.split(".")
    module = importlib.import_module(".".join(parts[:2]))
    found = module  # type: Any
    for part in parts[2:]:
        found = getattr(found, part)
    return found


if __name__ == "__main__":
    unittest.main()
