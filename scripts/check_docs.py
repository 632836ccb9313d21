#!/usr/bin/env python3
"""Runs the pages: writes the files that they show and executes the commands that they show.

A fenced block is told by what stands behind its language:

    file=PATH    write the block to PATH
    run          execute the block with bash; it must end with 0
    exit=N       with run: it must end with N

Each page gets a directory of its own, in which its blocks act in reading order. `asya` must be on the PATH.

    scripts/check_docs.py README.md docs/*.md
"""

import pathlib
import re
import subprocess
import sys
import tempfile

FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIMEOUT_SECONDS = 120


def blocks(page):
    for info, body in FENCE.findall(page.read_text(encoding="utf-8")):
        words = info.split()
        yield words, dict(word.split("=", 1) for word in words if "=" in word), body


def execute(body, directory, expected):
    """What went wrong, or None."""
    try:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", body],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "not done after %d s" % TIMEOUT_SECONDS
    if ended.returncode == expected:
        return None
    output = ended.stdout.decode("utf-8", "replace")[-3000:]
    return "exit code %d instead of %d\n%s" % (ended.returncode, expected, output)


def check(page):
    """The number of commands that ran as the page says, or None."""
    commands = 0
    with tempfile.TemporaryDirectory(prefix="asya-docs-") as directory:
        for words, options, body in blocks(page):
            if "file" in options:
                path = pathlib.Path(directory, options["file"])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(body, encoding="utf-8")
            elif "run" in words:
                problem = execute(body, directory, int(options.get("exit", 0)))
                if problem is not None:
                    print("%s: FAILED: %s\n%s" % (page, body.strip(), problem))
                    return None
                commands += 1
    return commands


def main(pages):
    failed = 0
    total = 0
    for page in map(pathlib.Path, pages):
        commands = check(page)
        if commands is None:
            failed += 1
        else:
            total += commands
            print("%s: %d commands as written" % (page, commands))
    if total == 0:
        print("no page shows a command: is the marking of the blocks gone?")
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
