#!/usr/bin/env bash
# Proves which Python versions asya_runtime.py runs on:
#   tests    on every Python >= 3.7 found on PATH and under ~/.pyenv/versions, one line each: all of them on the oldest
#            and on the newest, on the others what depends on the language rather than on processes
#            (ASYA_ALL_TESTS=1: all on each)
#   grammar  parsed as Python 3.7
#   vermin   a checker of minimum versions, if it can be installed (cached; pinned)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache="${ASYA_CACHE_DIR:-$(cd "$here/../.." && pwd)/.cache}/vermin"
vermin_version=1.6.0
script="$here/asya_runtime.py"
failed=0

# Prints "version<TAB>path" if $1 is a working Python >= 3.7; its real path, so that links count once.
identify() {
    "$1" -c 'import os, sys
v = sys.version_info
if v >= (3, 7):
    print("%d.%d.%d\t%s" % (v[0], v[1], v[2], os.path.realpath(sys.executable)))' 2>/dev/null || true
}

candidates() {
    local directory
    IFS=: read -ra directories <<<"$PATH"
    for directory in "${directories[@]}"; do
        compgen -G "$directory/python3*" | grep -E '/python3(\.[0-9]+)?$' || true
    done
    compgen -G "$HOME/.pyenv/versions/*/bin/python3" || true
}

mapfile -t found < <(candidates | while read -r python; do identify "$python"; done | sort -u -t $'\t' -k2,2 | sort -V)
if [ "${#found[@]}" -eq 0 ]; then
    echo "no Python >= 3.7 found on PATH or under ~/.pyenv/versions" >&2
    exit 1
fi

language=(test_loading test_payload_mode test_envelope_mode test_shapes test_batches)
for line in "${found[@]}"; do
    IFS=$'\t' read -r version python <<<"$line"
    chosen=("${language[@]}")
    if [ -n "${ASYA_ALL_TESTS:-}" ] || [ "$line" = "${found[0]}" ] || [ "$line" = "${found[-1]}" ]; then
        chosen=()
    fi
    if output=$("$python" "$here/tests" "${chosen[@]}" 2>&1); then
        summary=$(grep -E '^Ran ' <<<"$output")
        printf 'tests    Python %-8s ok    %s (%s)\n' "$version" "$summary" "$python"
    else
        failed=1
        printf 'tests    Python %-8s FAILED (%s)\n%s\n' "$version" "$python" "$output"
    fi
done

# feature_version needs 3.8; sorted, so the last one is the newest.
newest=$(cut -f2 <<<"${found[-1]}")
if "$newest" -c 'import ast, sys
source = open(sys.argv[1], encoding="utf-8").read()
ast.parse(source, sys.argv[1], feature_version=(3, 7))' "$script"; then
    echo "grammar  Python 3.7      ok    (ast.parse of $newest)"
else
    failed=1
    echo "grammar  Python 3.7      FAILED"
fi

venv="$cache/$vermin_version"
if [ ! -x "$venv/bin/vermin" ]; then
    mkdir -p "$cache"
    { "$newest" -m venv "$venv" && "$venv/bin/pip" install --quiet "vermin==$vermin_version"; } >"$cache/install.log" 2>&1 || true
fi
if [ ! -x "$venv/bin/vermin" ]; then
    echo "vermin   not installed, skipped (see $cache/install.log)"
elif output=$("$venv/bin/vermin" -t=3.7- --no-tips --eval-annotations "$script" 2>&1); then
    echo "vermin   Python 3.7      ok    ($(grep -E '^Minimum' <<<"$output"))"
else
    failed=1
    printf 'vermin   Python 3.7      FAILED\n%s\n' "$output"
fi

exit "$failed"
