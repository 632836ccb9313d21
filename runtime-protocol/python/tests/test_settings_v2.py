"""Settings of workers, concurrency, batches and streams: what is refused, and what the refusal advises."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from support import FIXTURES, HERE, SCRIPT, run_script

sys.path[:0] = [os.path.dirname(HERE), FIXTURES]
import asya_runtime  # noqa: E402

BAD = {
    "ASYA_WORKERS": ("0", "-1", "many", "1.5", "100000000"),
    "ASYA_CONCURRENCY": ("0", "-1", "many", "1.5"),
    "ASYA_BATCH_SIZE": ("0", "-1", "many", "1.5"),
    "ASYA_BATCH_WAIT": ("soon", "-1", "1 hour"),
    "ASYA_STREAM": ("maybe", "2"),
    "ASYA_CANCEL_GRACE": ("soon", "-5s", "169h"),
    "ASYA_FRAME_TIMEOUT": ("soon", "-5s", "0", "1000h"),
}


class Settings(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="asya-")
        self.addCleanup(shutil.rmtree, self.directory, True)

    def start(self, handler, **variables):
        code, output, errors = run_script(ASYA_HANDLER=handler, ASYA_SOCKET_DIR=self.directory, **variables)
        self.assertEqual((code, output), (1, ""), errors)
        self.assertEqual(os.listdir(self.directory), [])
        self.assertNotIn("Traceback", errors)
        return errors

    def check(self, handler, **variables):
        code, output, _errors = run_script("--check", ASYA_HANDLER=handler, **variables)
        return code, json.loads(output)

    def test_all_bad_values_in_one_report(self):
        values = {name: bad[0] for name, bad in BAD.items()}
        errors = self.start("workers.act", ASYA_HANDLER_MODE="both", **values)
        for name in list(BAD) + ["ASYA_HANDLER_MODE"]:
            self.assertRegex(errors, r"CRITICAL - %s " % name)
        for name, value in values.items():
            self.assertIn(repr(value), errors)

    def test_each_bad_value(self):
        for name, values in BAD.items():
            for value in values:
                env = asya_runtime.Environment({"ASYA_HANDLER": "a.b", name: value})
                asya_runtime.read_settings(env)
                self.assertEqual(len(env.problems), 1, (name, value, env.problems))
                self.assertIn(name, env.problems[0])
                self.assertEqual(env.warnings, [])

    def test_empty_is_unset(self):
        code, report = self.check("workers.act", **{name: "" for name in BAD})
        self.assertEqual((code, report["ok"]), (0, True))

    def test_help_lists_all(self):
        code, output, _errors = run_script("--help")
        self.assertEqual(code, 0)
        for name in BAD:
            self.assertIn(name, output)
        self.assertIn("--drain", output)

    def misfit(self, handler, **variables):
        """What is said against these settings for this handler, or None."""
        settings = asya_runtime.read_settings(asya_runtime.Environment(dict(variables, ASYA_HANDLER=handler)))
        try:
            asya_runtime.refuse_misfit(asya_runtime.resolve_handler(handler), settings)
        except asya_runtime.LoadError as refusal:
            return "%s; %s" % (refusal, refusal.hint)
        return None

    def test_check_names_the_shape(self):
        code, report = self.check("tasks.Client.process", ASYA_CONCURRENCY="8")
        expected = {"ok": True, "handler": "tasks.Client.process", "kind": "class", "shape": "async", "mode": "payload"}
        self.assertEqual((code, report), (0, expected))

    def test_concurrency_needs_an_async_handler(self):
        errors = self.start("workers.act", ASYA_CONCURRENCY="8")
        for text in ("ASYA_CONCURRENCY", "async def", "ASYA_WORKERS=8"):
            self.assertIn(text, errors)
        code, report = self.check("workers.act", ASYA_CONCURRENCY="8")
        self.assertEqual((code, report["ok"]), (1, False))
        self.assertIn("ASYA_CONCURRENCY", report["error"])
        self.assertIn("ASYA_WORKERS=8", report["hint"])
        self.assertIsNotNone(self.misfit("generators.fan_out", ASYA_CONCURRENCY="8"))
        self.assertIsNone(self.misfit("tasks.act", ASYA_CONCURRENCY="8"))
        self.assertIsNone(self.misfit("generators.fan_out_async", ASYA_CONCURRENCY="8"))
        self.assertIsNone(self.misfit("batches.later", ASYA_CONCURRENCY="8", ASYA_BATCH_SIZE="8"))

    def test_stream_needs_a_generator(self):
        errors = self.start("workers.act", ASYA_STREAM="true")
        self.assertIn("ASYA_STREAM", errors)
        self.assertIn("yield", errors)
        self.assertIn("ASYA_STREAM", self.misfit("tasks.act", ASYA_STREAM="true"))
        self.assertIsNone(self.misfit("generators.text", ASYA_STREAM="true"))
        self.assertIsNone(self.misfit("generators.text_async", ASYA_STREAM="true"))

    def test_batches_and_generators_do_not_go_together(self):
        self.assertIn("ASYA_BATCH_SIZE", self.misfit("generators.fan_out", ASYA_BATCH_SIZE="4"))
        self.assertIn("ASYA_BATCH_SIZE", self.misfit("generators.fan_out_async", ASYA_BATCH_SIZE="4"))

    def test_importing_the_module_that_the_handlers_see_costs_nothing_outside(self):
        # `from asya_runtime import context` in user code must work where nobody serves, in a notebook or a test.
        code = (
            "from asya_runtime import context\n"
            "context.progress(0.5, 'half')\n"
            "print(context.id, context.attempt, context.time_left(), context.cancelled())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=os.path.dirname(SCRIPT), stdout=subprocess.PIPE, timeout=20, check=True
        )
        self.assertEqual(done.stdout.decode().split()[1:], ["1", "None", "False"])


if __name__ == "__main__":
    unittest.main()
