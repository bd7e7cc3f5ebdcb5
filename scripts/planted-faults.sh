#!/usr/bin/env bash
# Proves that the simulation can fail: plants each fault of tests/faults in a copy of the tree, runs
# seeds until one fails, and prints which. It fails if a fault is not found.
#
#     scripts/planted-faults.sh [seeds]
#
# So many seeds are tried for each fault: 300 unless told otherwise, as `cargo test` runs them.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=${1:-300}
tree=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$tree/target}/faults"

mkdir "$copy/tree"
tar -C "$tree" --exclude=./target --exclude=./.git -cf - . | tar -C "$copy/tree" -xf -
cd "$copy/tree"

missed=0
for fault in "$tree"/tests/faults/*.patch; do
    name=$(basename "$fault" .patch)
    patch --quiet --strip=1 <"$fault"
    cargo test --quiet --test sim --no-run
    if CB_START=0 CB_COUNT=$seeds CB_FAILURES=1 RUST_BACKTRACE=0 timeout 900 \
        cargo test --quiet --test sim sweep -- --ignored --exact --nocapture \
        >"$copy/output" 2>&1; then
        echo "$name: NOT FOUND in $seeds seeds"
        missed=1
    else
        where=$(sed -n 's/^the simulation failed at //p' "$copy/output" | head -n 1)
        how=$(grep -A 1 -m 1 '^thread .* panicked at ' "$copy/output" | tail -n 1 | cut -c 1-120)
        if [ -z "$where" ]; then
            cat "$copy/output" >&2
            echo "$name: the run ended without naming a seed" >&2
            exit 1
        fi
        echo "$name: found at $where: $how"
    fi
    patch --quiet --strip=1 --reverse <"$fault"
done
exit "$missed"
