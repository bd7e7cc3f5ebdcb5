#!/usr/bin/env bash
# Proves that the tests can fail: plants each fault of tests/faults in a copy of the tree and prints
# what found it. It fails if a fault is not found.
#
#     scripts/planted-faults.sh [seeds] [fault...]
#
# A fault whose patch begins with `Found by: FILE FILTER` is left to the tests of that file whose
# names contain the filter. All others are left to the simulation, which tries so many seeds for
# each: 300 unless told otherwise, as `cargo test` runs them. Faults are named without `.patch`.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=${1:-300}
shift || true
tree=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$tree/target}/faults"

mkdir "$copy/tree"
tar -C "$tree" --exclude=./target --exclude=./.git -cf - . | tar -C "$copy/tree" -xf -
cd "$copy/tree"

# Prints which test of FILE finds the fault. False if none does.
tests_find() {
    cargo test --quiet --test "$1" --no-run
    if RUST_BACKTRACE=0 timeout 900 cargo test --test "$1" "$2" >"$copy/output" 2>&1; then
        return 1
    fi
    local test
    test=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$copy/output" | head -n 1)
    if [ -z "$test" ]; then
        cat "$copy/output" >&2
        echo "$name: the run ended without naming a test" >&2
        exit 1
    fi
    echo "$name: found by $test"
}

if (($# == 0)); then
    set -- "$tree"/tests/faults/*.patch
fi
missed=0
for fault; do
    name=$(basename "$fault" .patch)
    fault="$tree/tests/faults/$name.patch"
    patch --quiet --strip=1 <"$fault"
    read -r file filter < <(sed -n '1s/^Found by: //p' "$fault") || true
    if [ -n "$file" ]; then
        if ! tests_find "$file" "$filter"; then
            echo "$name: NOT FOUND by the tests $filter of $file"
            missed=1
        fi
        patch --quiet --strip=1 --reverse <"$fault"
        continue
    fi
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
