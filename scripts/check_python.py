"""Parses every Python file of the repository as Python 3.7, the oldest version that handlers may use.

Files under benches/, tests/ and scripts/ only run where the project is developed: they must parse here.
"""

import ast
import subprocess
import sys
import warnings

DEVELOPMENT = ("benches/", "scripts/", "tests/")


def main() -> int:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py"],
        check=True,
        stdout=subprocess.PIPE,
    )
    names = sorted(name for name in listed.stdout.decode().split("\0") if name)
    if not names:
        print("check_python: no Python file found; is this the root of the repository?", file=sys.stderr)
        return 1
    warnings.simplefilter("error", SyntaxWarning)
    problems = [problem for problem in map(check, names) if problem]
    print("\n".join(problems) or f"{len(names)} Python files parse")
    return 1 if problems else 0


def check(name: str) -> str:
    version = sys.version_info[:2] if name.startswith(DEVELOPMENT) else (3, 7)
    try:
        with open(name, encoding="utf-8") as file:
            source = file.read()
        ast.parse(source, name, feature_version=version)
        compile(source, name, "exec", dont_inherit=True)
    except FileNotFoundError:
        return ""  # Listed by git, deleted in the working tree.
    except (SyntaxError, SyntaxWarning, UnicodeDecodeError) as error:
        return f"{name}: Python {version[0]}.{version[1]}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
