#!/usr/bin/env bash
# Finds KEDA's own custom resource definitions, and prints the folder in which they are.
#
# They come from KEDA's Go module, downloaded once by version and checksum into a cache outside of the target folder:
# what an API server with KEDA enforces is what the tests enforce, and no copy of it grows old here. The folder
# ASYA_KEDA_CRDS is used instead if it is set. Where there is neither, the only line says why, as "missing reason".
set -euo pipefail

version=v2.21.0
sum=h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=
files=(keda.sh_scaledobjects.yaml keda.sh_scaledjobs.yaml keda.sh_triggerauthentications.yaml)
cache=${ASYA_KUBE_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/asya/kube}/keda-$version

missing() { echo "missing $1"; exit 0; }

has_all() {
    for file in "${files[@]}"; do
        [ -s "$1/$file" ] || return 1
    done
}

fetch() {
    command -v go >/dev/null 2>&1 || missing "there is no go on PATH"
    echo "kube: downloading KEDA's definitions from its Go module, once" >&2
    local found
    # Outside of any module, so that no go.mod or go.sum plays a part.
    found=$(cd / && GOTOOLCHAIN=local GOFLAGS="" go mod download -json "github.com/kedacore/keda/v2@$version") ||
        missing "go could not download KEDA $version"
    grep -qF "\"Sum\": \"$sum\"" <<<"$found" || missing "KEDA $version has another checksum than $sum"
    local dir
    dir=$(sed -n 's/^.*"Dir": "\(.*\)",\?$/\1/p' <<<"$found")
    mkdir -p "$cache"
    for file in "${files[@]}"; do
        install -m 644 "$dir/config/crd/bases/$file" "$cache/$file.$$"
        mv "$cache/$file.$$" "$cache/$file"
    done
}

folder=${ASYA_KEDA_CRDS:-$cache}
if ! has_all "$folder"; then
    [ -z "${ASYA_KEDA_CRDS:-}" ] || missing "ASYA_KEDA_CRDS has not all of: ${files[*]}"
    fetch
fi
echo "$folder"
