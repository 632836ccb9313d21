#!/usr/bin/env bash
# Finds or builds kube-apiserver, etcd, kubectl and helm, and prints for each one line "name path".
#
# In this order: the folder KUBEBUILDER_ASSETS, what is on PATH, what an earlier run built, and else the Go modules of
# go.mod beside this file, compiled once (minutes) into a cache outside of the target folder. A program that can be
# had in none of these ways is left out of the list; the last line then says why, as "missing reason".
#
#   tools.sh              all four
#   tools.sh helm kubectl only these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

declare -A package=(
    [kube-apiserver]=k8s.io/kubernetes/cmd/kube-apiserver
    [etcd]=go.etcd.io/etcd/server/v3
    [kubectl]=k8s.io/kubernetes/cmd/kubectl
    [helm]=helm.sh/helm/v3/cmd/helm
)
[ $# -gt 0 ] || set -- kube-apiserver etcd kubectl helm
version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' go.mod)
cache=${ASYA_KUBE_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/asya/kube/$(cat go.mod go.sum | sha256sum | cut -c1-16)}

# The system's etcd may be older than the API server wants, so PATH counts for the others only.
find_tool() {
    local name=$1
    if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$name" ]; then
        echo "$KUBEBUILDER_ASSETS/$name"
    elif [ "$name" != etcd ] && command -v "$name" >/dev/null 2>&1; then
        command -v "$name"
    elif [ -x "$cache/$name" ]; then
        echo "$cache/$name"
    else
        return 1
    fi
}

build_tool() {
    local name=$1 major minor flags="-s -w"
    command -v go >/dev/null 2>&1 || { reason="there is no go on PATH"; return 1; }
    IFS=. read -r major minor _ <<<"${version#v}"
    case $name in kube*)
        flags+=" -X k8s.io/component-base/version.gitVersion=$version"
        flags+=" -X k8s.io/component-base/version.gitMajor=$major -X k8s.io/component-base/version.gitMinor=$minor"
        ;;
    esac
    echo "kube: building $name from its Go module, once" >&2
    mkdir -p "$cache"
    local started=$SECONDS
    if ! CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly \
        go build -trimpath -ldflags "$flags" -o "$cache/$name.$$" "${package[$name]}" >&2; then
        rm -f "$cache/$name.$$"
        reason="go could not build $name"
        return 1
    fi
    mv "$cache/$name.$$" "$cache/$name"
    echo "kube: built $name in $((SECONDS - started)) s" >&2
}

reason=
for name in "$@"; do
    [ -n "${package[$name]:-}" ] || { echo "tools.sh: no tool is called $name" >&2; exit 2; }
    # Two runs at once build one after the other, and the second finds what the first has built.
    if find_tool "$name" >/dev/null || {
        mkdir -p "$cache" && exec 9>"$cache/.lock" && flock 9 && { find_tool "$name" >/dev/null || build_tool "$name"; }
    }; then
        echo "$name $(find_tool "$name")"
    fi
    exec 9>&-
done
[ -z "$reason" ] || echo "missing $reason"
