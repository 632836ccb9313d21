#!/usr/bin/env bash
# Checks what is not Rust: Python syntax, shell scripts, the YAML of the examples.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

yamllint_version=1.35.1
cache="${ASYA_CACHE_DIR:-.cache}/yamllint"
failed=0

python3 scripts/check_python.py || failed=1

shells=()
# The checkout may belong to somebody else, as it does in containers.
while IFS= read -r -d '' file; do
    if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*\b(ba)?sh$'; then
        shells+=("$file")
    fi
done < <(git -c safe.directory='*' ls-files -z --cached --others --exclude-standard -- '*.sh' .ci)
if [ "${#shells[@]}" -eq 0 ]; then
    echo "lint-files: no shell script found; is git there, and is this a checkout?" >&2
    exit 1
fi
for file in "${shells[@]}"; do
    bash -n "$file" || failed=1
done
if command -v shellcheck >/dev/null; then
    shellcheck "${shells[@]}" || failed=1
    echo "${#shells[@]} shell scripts checked"
else
    echo "${#shells[@]} shell scripts parse (shellcheck is not installed, skipped)"
fi

yamllint="$cache/$yamllint_version/bin/yamllint"
if [ ! -x "$yamllint" ]; then
    mkdir -p "$cache"
    {
        python3 -m venv "$cache/$yamllint_version" &&
            "$cache/$yamllint_version/bin/pip" install --quiet "yamllint==$yamllint_version"
    } >"$cache/install.log" 2>&1 || true
fi
if [ -x "$yamllint" ]; then
    # Comments and long scalars are for people to lay out.
    rules='{extends: relaxed, rules: {line-length: disable}}'
    "$yamllint" --strict --config-data "$rules" examples || failed=1
    echo "YAML under examples/ checked"
else
    echo "YAML not checked: yamllint could not be installed, see $cache/install.log"
fi

exit "$failed"
