#!/usr/bin/env bash
# Runs the simulation over many seeds, in two processes, and prints the seeds that fail.
#
#     scripts/sweep.sh [count] [start]
#
# The seeds are start .. start + count; 2,000 from 10,000 on unless told otherwise. The build is
# optimized but keeps its assertions, in a folder of its own beside the other builds.
set -euo pipefail
cd "$(dirname "$0")/.."

count=${1:-2000}
start=${2:-10000}

export CARGO_PROFILE_RELEASE_LTO=off
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
export CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/sweep"
cargo test --quiet --release --test sim --no-run

output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT
first=$((count / 2))

# sweep NAME START COUNT
sweep() {
    CB_START=$2 CB_COUNT=$3 RUST_BACKTRACE=0 \
        cargo test --quiet --release --test sim sweep -- --ignored --exact --nocapture \
        >"$output/$1" 2>&1
}

failed=0
sweep one "$start" "$first" &
other=$!
sweep two "$((start + first))" "$((count - first))" || failed=1
wait "$other" || failed=1

grep -h -A2 -E '^thread .* panicked|^the simulation failed|^failing seed|^error' \
    "$output/one" "$output/two" | grep -v -E '^(--|note:)' || true
if [ "$failed" -ne 0 ]; then
    echo "some of the seeds $start to $((start + count - 1)) fail" >&2
    exit 1
fi
echo "the seeds $start to $((start + count - 1)) keep the contract"
