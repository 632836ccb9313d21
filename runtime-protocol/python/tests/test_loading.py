"""Finding the handler, --check, settings, and what a failed start leaves behind."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from support import FIXTURES, HERE, SCRIPT, Runtime, environment, run_script, wait_until

sys.path[:0] = [os.path.dirname(HERE), FIXTURES]
import asya_runtime  # noqa: E402


def check(handler, **variables):
    code, output, errors = run_script("--check", ASYA_HANDLER=handler, **variables)
    return code, json.loads(output), errors


class Check(unittest.TestCase):
    def assert_kind(self, handler, kind):
        target = asya_runtime.resolve_handler(handler)
        self.assertEqual((target.name, target.kind), (handler, kind))

    def assert_refused(self, handler, error, hint="", **variables):
        code, report, errors = check(handler, **variables)
        self.assertEqual((code, report["ok"]), (1, False))
        self.assertEqual(set(report), {"ok", "error", "hint"})
        self.assertIn(error, report["error"])
        self.assertIn(hint, report["hint"])
        return errors

    def assert_not_resolved(self, handler, error, hint=""):
        with self.assertRaises(asya_runtime.LoadError) as caught:
            asya_runtime.resolve_handler(handler)
        self.assertIn(error, str(caught.exception))
        self.assertIn(hint, caught.exception.hint)

    def test_report(self):
        expected = {"ok": True, "handler": "sample.echo", "kind": "function", "shape": "function", "mode": "payload"}
        self.assertEqual(check("sample.echo")[:2], (0, expected))

    def test_kinds(self):
        self.assert_kind("sample.echo", "function")
        self.assert_kind("sample.Counter.process", "class")
        self.assert_kind("sample.Bare.Inner.process", "class")
        self.assert_kind("sample.Bare.fixed", "function")
        self.assert_kind("sample.partial", "callable")
        self.assert_kind("sample.decorated", "function")

    def test_shapes(self):
        cases = {
            "sample.echo": "function",
            "sample.coroutine": "async",
            "sample.async_partial": "async",
            "sample.Bare.later": "async",
            "tasks.instance": "async",
            "sample.generator": "generator",
            "generators.Model.process": "generator",
            "generators.fan_out_async": "async generator",
            "generators.returned": "function",
        }
        for handler, shape in cases.items():
            self.assertEqual(asya_runtime.resolve_handler(handler).shape, shape, handler)

    def test_mode_is_reported(self):
        self.assertEqual(check("envelopes.act", ASYA_HANDLER_MODE="Envelope")[1]["mode"], "envelope")

    def test_output_holds_nothing_but_the_report(self):
        code, output, errors = run_script("--check", ASYA_HANDLER="chatty.Model.process")
        self.assertEqual(code, 0)
        self.assertEqual(json.loads(output)["kind"], "class")
        self.assertEqual(output.count("\n"), 1)
        self.assertIn("hello from the import", errors)
        self.assertIn("from below Python", errors)

    def test_missing_module(self):
        self.assert_refused("nowhere.process", "could not import module 'nowhere'", "PYTHONPATH")

    def test_module_in_the_working_directory_gets_a_precise_hint(self):
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        with open(os.path.join(directory, "local_only.py"), "w") as file:
            file.write("def process(payload): return payload\n")
        done = subprocess.run(
            [sys.executable, SCRIPT, "--check"],
            cwd=directory,
            env=environment(ASYA_HANDLER="local_only.process"),
            stdout=subprocess.PIPE,
            timeout=20,
        )
        hint = json.loads(done.stdout.decode())["hint"]
        self.assertIn("the working directory is not searched: set PYTHONPATH=", hint)

    def test_missing_attribute_suggests_the_near_one(self):
        self.assert_refused("sample.ecko", "sample has no attribute 'ecko'", "did you mean 'echo'?")

    def test_error_inside_the_module_is_shown_as_such(self):
        errors = self.assert_refused("broken.process", "No module named 'a_module_that_is_not_installed'", "install")
        self.assertIn("broken.py", errors)
        self.assertIn("Traceback", errors)
        self.assert_refused("raises.process", "RuntimeError: needs a licence")
        self.assert_refused("exits.process", "sys.exit(3)", "__main__")

    def test_names_that_are_no_handlers(self):
        for name in ("echo", "sample.", ".echo", "sample.echo()", "sample/echo.x", "sample.echo\n", "1a.b", "a b.c"):
            with self.subTest(name):
                with self.assertRaisesRegex(asya_runtime.LoadError, "not a dotted Python name"):
                    asya_runtime.resolve_handler(name)

    def test_unsupported_handlers(self):
        self.assert_not_resolved("sample.Bare", "is a class", "sample.Bare.process")
        self.assert_not_resolved("sample.not_callable", "cannot be called")
        self.assert_not_resolved("sample.no_arguments", "cannot be called with one argument")
        self.assert_not_resolved("sample.Demanding.process", "parameter 'size' of Demanding.__init__ must have a default value")

    def test_all_problems_in_one_report(self):
        report = check("", ASYA_HANDLER_MODE="both", ASYA_MAX_MESSAGE_SIZE="lots", ASYA_SHUTDOWN_GRACE="soon")[1]
        for name in ("ASYA_HANDLER ", "ASYA_HANDLER_MODE", "ASYA_MAX_MESSAGE_SIZE", "ASYA_SHUTDOWN_GRACE"):
            self.assertIn(name, report["error"])


class Serving(unittest.TestCase):
    """Each way to write a handler answers over the socket."""

    def assert_answers(self, handler, payload, *expected):
        with Runtime(handler) as runtime:
            for value in expected:
                self.assertEqual(runtime.call(payload)[0]["payload"], value)

    def test_class_is_created_once(self):
        self.assert_answers("sample.Counter.process", None, {"count": 11}, {"count": 12})

    def test_class_without_init(self):
        self.assert_answers("sample.Bare.process", 1, {"bare": 1})

    def test_nested_class(self):
        self.assert_answers("sample.Bare.Inner.process", 1, {"inner": 1})

    def test_static_and_class_methods(self):
        self.assert_answers("sample.Bare.fixed", 1, {"static": 1})
        self.assert_answers("sample.Bare.made", 1, {"class": "Bare", "payload": 1})

    def test_callable_objects(self):
        self.assert_answers("sample.adder", 1, 6)
        self.assert_answers("sample.partial", 1, 4)


class FailedStart(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="asya-")
        self.addCleanup(shutil.rmtree, self.directory)

    def start(self, handler, **variables):
        settings = {"ASYA_SOCKET_DIR": self.directory, "ASYA_HANDLER": handler}
        settings.update(variables)
        code, output, errors = run_script(**settings)
        self.assertEqual(output, "")
        return code, errors

    def test_leaves_no_socket_and_no_ready_file(self):
        code, errors = self.start("broken.process")
        self.assertEqual(code, 1)
        self.assertRegex(errors, r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - asya\.runtime - CRITICAL - importing broken failed")
        self.assertEqual(os.listdir(self.directory), [])

    def test_class_that_cannot_be_created(self):
        code, errors = self.start("sample.Exploding.process")
        self.assertEqual(code, 1)
        self.assertIn("creating Exploding failed: OSError: no weights here", errors)
        self.assertIn('raise OSError("no weights here")', errors)

    def test_bad_mode(self):
        code, errors = self.start("sample.echo", ASYA_HANDLER_MODE="batch")
        self.assertEqual(code, 1)
        self.assertIn("ASYA_HANDLER_MODE must be payload or envelope, not 'batch'", errors)

    def test_socket_path_is_a_directory(self):
        os.mkdir(os.path.join(self.directory, "asya-runtime.sock"))
        code, errors = self.start("sample.echo")
        self.assertEqual(code, 1)
        self.assertIn("is a directory", errors)

    def test_ready_file_cannot_be_written(self):
        # Nobody would ever find a runtime without it.
        os.mkdir(os.path.join(self.directory, "runtime-ready"))
        code, errors = self.start("sample.echo")
        self.assertEqual(code, 1)
        self.assertIn("CRITICAL - failed to open %s" % os.path.join(self.directory, "runtime-ready"), errors)
        self.assertEqual(os.listdir(self.directory), ["runtime-ready"])

    def test_socket_path_is_a_file_of_the_user(self):
        path = os.path.join(self.directory, "asya-runtime.sock")
        with open(path, "w") as file:
            file.write("notes")
        self.assertEqual(self.start("sample.echo")[0], 1)
        with open(path) as file:
            self.assertEqual(file.read(), "notes")

    def test_socket_path_too_long(self):
        code, errors = self.start("sample.echo", ASYA_SOCKET_NAME="x" * 120)
        self.assertEqual(code, 1)
        self.assertIn("the system allows 107", errors)

    def test_second_runtime_leaves_the_first_alone(self):
        with Runtime("sample.echo") as runtime:
            code, errors = self.start("sample.echo", ASYA_SOCKET_DIR=runtime.directory)
            self.assertEqual(code, 1)
            self.assertIn("another runtime already serves this socket", errors)
            self.assertEqual(runtime.call(1)[0]["payload"], 1)

    def test_sigterm_while_importing(self):
        started = os.path.join(self.directory, "started")
        process = subprocess.Popen(
            [sys.executable, SCRIPT],
            env=environment(
                ASYA_HANDLER="slow_import.process", ASYA_SOCKET_DIR=self.directory, SLOW_IMPORT_STARTED=started
            ),
        )
        try:
            wait_until(lambda: os.path.exists(started), "the import began")
            process.terminate()
            self.assertEqual(process.wait(20), 0)
        finally:
            process.kill()
            process.wait()
        self.assertEqual(os.listdir(self.directory), ["started"])


class Settings(unittest.TestCase):
    def read(self, **values):
        env = asya_runtime.Environment(values)
        return asya_runtime.read_settings(env), env

    def test_defaults(self):
        settings, env = self.read(ASYA_HANDLER="a.b")
        self.assertEqual((env.warnings, env.problems), ([], []))
        self.assertEqual((settings.mode, settings.validate, settings.repeat_unchanged), ("payload", True, False))
        self.assertEqual(settings.socket_path, "/var/run/asya/asya-runtime.sock")
        self.assertEqual(settings.ready_path, "/var/run/asya/runtime-ready")
        self.assertEqual((settings.socket_mode, settings.chunk_size, settings.shutdown_grace), (0o666, 65536, 0.0))
        self.assertEqual(settings.max_message_size, 64 * 1024 * 1024)

    def test_empty_is_unset_except_for_the_socket_mode(self):
        names = [name for name, _default, _meaning in asya_runtime.VARIABLES if name != "ASYA_HANDLER"]
        settings, env = self.read(ASYA_HANDLER="a.b", **{name: "" for name in names})
        self.assertEqual((env.warnings, env.problems), ([], []))
        self.assertIsNone(settings.socket_mode)
        self.assertEqual(settings._replace(socket_mode=0o666), self.read(ASYA_HANDLER="a.b")[0])

    def test_values(self):
        for text, value in (("1", True), ("Yes", True), ("on", True), ("FALSE", False), ("0", False), ("no", False)):
            self.assertEqual(self.read(ASYA_ENABLE_VALIDATION=text)[0].validate, value, text)
        for text, value in (("666", 0o666), ("0o600", 0o600), ("0660", 0o660)):
            self.assertEqual(self.read(ASYA_SOCKET_CHMOD=text)[0].socket_mode, value, text)
        for text, value in (("90", 90), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400)):
            self.assertEqual(self.read(ASYA_SHUTDOWN_GRACE=text)[0].shutdown_grace, value, text)

    def test_older_names(self):
        self.assertEqual(self.read(ASYA_SOCKETS_DIR="/s")[0].socket_path, "/s/asya-runtime.sock")
        self.assertEqual(self.read(ASYA_SOCKET_PATH="/p/x.sock")[0].socket_path, "/p/x.sock")
        self.assertEqual(self.read(ASYA_SOCKET_PATH="/p/x", ASYA_SOCKET_DIR="/d")[0].socket_path, "/d/asya-runtime.sock")

    def test_bad_values_of_the_contract_warn_and_take_the_default(self):
        settings, env = self.read(
            ASYA_HANDLER="a.b",
            ASYA_ENABLE_VALIDATION="maybe",
            ASYA_SOCKET_CHMOD="rw",
            ASYA_CHUNK_SIZE="-1",
            ASYA_LOG_LEVEL="LOUD",
        )
        self.assertEqual((settings.validate, settings.socket_mode, settings.chunk_size), (True, 0o666, 65536))
        self.assertEqual(len(env.warnings), 4)
        self.assertEqual(env.problems, [])

    def test_bad_values_of_newer_variables_are_refused(self):
        _, env = self.read(
            ASYA_HANDLER="a.b", ASYA_INCLUDE_METADATA="some", ASYA_ROUTE_UNCHANGED="x", ASYA_MAX_MESSAGE_SIZE="1MiB"
        )
        self.assertEqual(len(env.problems), 3)

    def test_help_and_readme_name_every_variable_that_is_read(self):
        class Recorder(dict):
            names = set()

            def get(self, name, default=None):
                self.names.add(name)
                return default

        asya_runtime.read_settings(asya_runtime.Environment(Recorder()))
        self.assertEqual({row[0] for row in asya_runtime.VARIABLES}, Recorder.names)
        with open(os.path.join(os.path.dirname(HERE), "README.md")) as file:
            readme = file.read()
        for name in Recorder.names:
            self.assertIn("`%s`" % name, readme)

    def test_help_version_and_unknown_arguments(self):
        code, output, _ = run_script("--help")
        self.assertEqual(code, 0)
        self.assertIn("ASYA_MAX_MESSAGE_SIZE", output)
        self.assertEqual(run_script("--version")[1].split()[:2], ["asya-runtime", asya_runtime.VERSION])
        self.assertEqual(run_script("--serve")[0], 2)


if __name__ == "__main__":
    unittest.main()
