"""Settings of workers, concurrency, batches and streams: what is refused, and what the refusal advises."""

import json
import shutil
import os
import tempfile
import unittest

from support import run_script

BAD = {
    "ASYA_WORKERS": ("0", "-1", "many", "1.5", "100000000"),
    "ASYA_CONCURRENCY": ("0", "-1", "many", "1.5"),
    "ASYA_BATCH_SIZE": ("0", "-1", "many", "1.5"),
    "ASYA_BATCH_WAIT": ("soon", "-1", "1 hour"),
    "ASYA_STREAM": ("maybe", "2"),
    "ASYA_CANCEL_GRACE": ("soon", "-5s"),
    "ASYA_FRAME_TIMEOUT": ("soon", "-5s", "0"),
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
        # Through --check of one process would be faster, yet the exit code of a start is what a pod shows.
        import sys
        from support import HERE

        sys.path.insert(0, os.path.dirname(HERE))
        import asya_runtime

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

    def test_check_names_the_shape(self):
        for handler, kind, shape in (
            ("workers.act", "function", "function"),
            ("tasks.act", "function", "async"),
            ("tasks.Client.process", "class", "async"),
            ("generators.fan_out", "function", "generator"),
            ("generators.fan_out_async", "function", "async generator"),
        ):
            code, report = self.check(handler)
            self.assertEqual((code, report["kind"], report["shape"]), (0, kind, shape))

    def test_concurrency_needs_an_async_handler(self):
        errors = self.start("workers.act", ASYA_CONCURRENCY="8")
        self.assertIn("ASYA_CONCURRENCY", errors)
        self.assertRegex(errors, "async def")
        self.assertIn("ASYA_WORKERS", errors)
        code, report = self.check("workers.act", ASYA_CONCURRENCY="8")
        self.assertEqual((code, report["ok"]), (1, False))
        self.assertIn("ASYA_CONCURRENCY", report["error"])
        self.assertIn("ASYA_WORKERS=8", report["hint"])
        self.assertEqual(self.check("tasks.act", ASYA_CONCURRENCY="8")[0], 0)
        self.assertEqual(self.check("generators.fan_out", ASYA_CONCURRENCY="8")[0], 1)
        self.assertEqual(self.check("generators.fan_out_async", ASYA_CONCURRENCY="8")[0], 0)

    def test_stream_needs_a_generator(self):
        errors = self.start("workers.act", ASYA_STREAM="true")
        self.assertIn("ASYA_STREAM", errors)
        self.assertIn("yield", errors)
        for handler, code in (("tasks.act", 1), ("generators.text", 0), ("generators.text_async", 0)):
            self.assertEqual(self.check(handler, ASYA_STREAM="true")[0], code, handler)

    def test_batches_and_generators_do_not_go_together(self):
        errors = self.start("generators.fan_out", ASYA_BATCH_SIZE="4")
        self.assertIn("ASYA_BATCH_SIZE", errors)

    def test_importing_the_module_that_the_handlers_see_costs_nothing_outside(self):
        # `from asya_runtime import context` in user code must work where nobody serves, in a notebook or a test.
        import subprocess
        import sys
        from support import SCRIPT

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
