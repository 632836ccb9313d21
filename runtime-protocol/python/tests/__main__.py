"""Runs each test module in a process of its own, several at a time, because most of what they do is waiting.

python3 tests                        all of them
python3 tests test_cancel            only these

The same tests one after the other: python3 -m unittest discover -s tests
"""

import concurrent.futures
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LONGEST_SECONDS = 600


def modules():
    """The long ones first, so that none is left over at the end. Size is a fair guess of that."""
    names = [name for name in os.listdir(HERE) if name.startswith("test_") and name.endswith(".py")]
    names.sort(key=lambda name: os.path.getsize(os.path.join(HERE, name)), reverse=True)
    return [name[: -len(".py")] for name in names]


def run(module):
    """(number of tests, whether they passed, what was printed)."""
    done = subprocess.run(
        [sys.executable, "-m", "unittest", module],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONGEST_SECONDS,
    )
    output = done.stdout.decode("utf-8", "replace")
    found = re.search(r"^Ran (\d+) tests? in", output, re.MULTILINE)
    count = int(found.group(1)) if found else 0
    # A module in which nothing was found is as bad as one that fails.
    return count, done.returncode == 0 and count > 0, output


def main(names):
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        names = names or modules()
        results = list(zip(names, pool.map(run, names)))
    failed = [name for name, (_count, passed, _output) in results if not passed]
    for name, (_count, passed, output) in results:
        if not passed:
            print("=== %s\n%s" % (name, output))
    total = sum(count for _name, (count, _passed, _output) in results)
    seconds = time.monotonic() - started
    print("Ran %d tests in %.1fs%s" % (total, seconds, "" if not failed else ", failed: " + ", ".join(failed)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
