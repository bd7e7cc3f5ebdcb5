#!/usr/bin/env bash
# Proves that the tests can fail: plants each fault of tests/faults in a copy of the tree, runs
# seeds of the simulation until one fails, and prints which; for those of tests/faults/client it
# runs the test of the client's core, and prints what failed. It fails if a fault is not found.
#
#     scripts/planted-faults.sh [seeds [pattern]]
#
# So many seeds are tried for each fault: 300 unless told otherwise, as `cargo test` runs them.
# With a pattern, such as client/*, only the faults whose names match it are planted.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=${1:-300}
pattern=${2:-*}
tree=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$tree/target}/faults"

mkdir "$copy/tree"
tar -C "$tree" --exclude=./target --exclude=./.git -cf - . | tar -C "$copy/tree" -xf -
cd "$copy/tree"

missed=0

# The simulation under one fault.
simulate() {
    local name=$1 where how
    cargo test --quiet --test sim --no-run
    if CB_START=0 CB_COUNT=$seeds CB_FAILURES=1 RUST_BACKTRACE=0 timeout 900 \
        cargo test --quiet --test sim sweep -- --ignored --exact --nocapture \
        >"$copy/output" 2>&1; then
        echo "$name: NOT FOUND in $seeds seeds"
        missed=1
        return
    fi
    where=$(sed -n 's/^the simulation failed at //p' "$copy/output" | head -n 1)
    how=$(grep -A 1 -m 1 '^thread .* panicked at ' "$copy/output" | tail -n 1 | cut -c 1-120)
    if [ -z "$where" ]; then
        cat "$copy/output" >&2
        echo "$name: the run ended without naming a seed" >&2
        exit 1
    fi
    echo "$name: found at $where: $how"
}

# The client's core under one fault.
ask_the_client() {
    local name=$1 failed
    cargo test --quiet --test client_core --no-run
    if RUST_BACKTRACE=0 timeout 900 cargo test --quiet --test client_core >"$copy/output" 2>&1; then
        echo "$name: NOT FOUND"
        missed=1
        return
    fi
    failed=$(sed -n 's/^    \([a-z_]*\)$/\1/p' "$copy/output" | sort -u | paste -sd ' ')
    if [ -z "$failed" ]; then
        cat "$copy/output" >&2
        echo "$name: the run ended without naming a test" >&2
        exit 1
    fi
    echo "$name: found by $failed"
}

for fault in "$tree"/tests/faults/*.patch "$tree"/tests/faults/client/*.patch; do
    name=${fault#"$tree/tests/faults/"}
    name=${name%.patch}
    # shellcheck disable=SC2053
    [[ $name == $pattern ]] || continue
    patch --quiet --strip=1 <"$fault"
    case $name in
        client/*) ask_the_client "$name" ;;
        *) simulate "$name" ;;
    esac
    patch --quiet --strip=1 --reverse <"$fault"
done
exit "$missed"
