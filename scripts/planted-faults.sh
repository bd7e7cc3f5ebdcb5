#!/usr/bin/env bash
# Proves that the tests can fail: plants each fault of tests/faults in a copy of the tree and prints
# what found it. It fails if a fault is not found.
#
#     scripts/planted-faults.sh [seeds] [fault...]
#
# A fault whose patch begins with `Found by: FILE FILTER` is left to the tests of that file whose
# names contain the filter; without a filter, to all of that file. All others are left to the
# simulation, which tries so many seeds for each: 300 unless told otherwise, as `cargo test` runs
# them. Where a patch says `Found at seed: N`, as it was last found, that seed is tried first: it
# saves time where it still finds the fault, and where it does not all the others are tried.
# Faults are named without `.patch`.
#
# The faults are dealt out to as many lanes as there are cores, four at most. Each lane has a copy
# of the tree and a target directory of its own, which begins with the dependencies that
# `cargo test` has built. Nothing that a default feature adds is looked at, and without them every
# build is a third shorter.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=${1:-300}
shift || true
tree=$PWD
lanes=$(nproc)
((lanes <= 4)) || lanes=4
base="${CARGO_TARGET_DIR:-$tree/target}/faults"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if (($# == 0)); then
    set -- "$tree"/tests/faults/*.patch
fi

# tests_find NAME FILE FILTER: prints which test of FILE finds the fault. False if none does.
tests_find() {
    local name=$1 file=$2 filter=$3 status=0 test
    cargo test --quiet --no-default-features --test "$file" --no-run
    # shellcheck disable=SC2086 # No filter is no argument.
    RUST_BACKTRACE=0 timeout 120 cargo test --no-default-features --test "$file" $filter \
        >"$output" 2>&1 || status=$?
    ((status != 0)) || return 1
    # The harness names a test that has not come to its end after a minute; they all take seconds.
    test=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p;
                   s/^test \(.*\) has been running for over 60 seconds$/\1, which does not end/p' \
        "$output" | head -n 1)
    if [ -z "$test" ]; then
        cat "$output" >&2
        echo "$name: the run ended without naming a test" >&2
        exit 1
    fi
    echo "$name: found by $test"
}

# seeds_pass START COUNT: runs so many seeds of the simulation. False if one fails.
seeds_pass() {
    CB_START=$1 CB_COUNT=$2 CB_FAILURES=1 RUST_BACKTRACE=0 timeout 900 \
        cargo test --quiet --no-default-features --test sim sweep -- --ignored --exact --nocapture \
        >"$output" 2>&1
}

# simulation_finds NAME HINT: prints at which seed the simulation finds the fault, of which HINT may
# be tried first. False if it does not.
simulation_finds() {
    local name=$1 hint=$2 where how
    cargo test --quiet --no-default-features --test sim --no-run
    if { [ -z "$hint" ] || seeds_pass "$hint" 1; } && seeds_pass 0 "$seeds"; then
        return 1
    fi
    where=$(sed -n 's/^the simulation failed at //p' "$output" | head -n 1)
    how=$(grep -A 1 -m 1 '^thread .* panicked at ' "$output" | tail -n 1 | cut -c 1-120)
    if [ -z "$where" ]; then
        cat "$output" >&2
        echo "$name: the run ended without naming a seed" >&2
        exit 1
    fi
    echo "$name: found at $where: $how"
}

# Gives a new target directory the dependencies that were built for the tree, and no program. Of
# those that are built at this moment it may miss some; cargo builds what it lacks.
take_dependencies() {
    local built=${base%/faults}
    if [ -d "$built/debug/deps" ] && [ ! -d "$CARGO_TARGET_DIR" ]; then
        mkdir -p "$CARGO_TARGET_DIR"
        (
            cd "$built"
            find debug/.fingerprint debug/build debug/deps \( -name '*corebeat*' -o \
                -path 'debug/deps/*' ! -name '*.*' \) -prune -o ! -type d -print0
        ) | tar -C "$built" --null -T - -cf - | tar -C "$CARGO_TARGET_DIR" -xf - || true
    fi
}

# run_lane NUMBER FAULT...: every `lanes`-th fault, from NUMBER on.
run_lane() {
    local lane=$1 missed=0 number=0 name patch file filter hint
    shift
    output="$scratch/$lane.output"
    export CARGO_TARGET_DIR="$base/$lane"
    take_dependencies
    mkdir -p "$scratch/$lane"
    tar -C "$tree" --exclude=./target --exclude=./.git --exclude=node_modules -cf - . |
        tar -C "$scratch/$lane" -xf -
    cd "$scratch/$lane"
    for name; do
        ((number++ % lanes == lane)) || continue
        name=$(basename "$name" .patch)
        patch="$tree/tests/faults/$name.patch"
        patch --quiet --strip=1 <"$patch"
        file='' filter=''
        read -r file filter < <(sed -n '1s/^Found by: //p' "$patch") || true
        hint=$(sed -n '/^--- /q; s/^Found at seed: //p' "$patch")
        if [ -n "$file" ]; then
            if ! tests_find "$name" "$file" "$filter"; then
                echo "$name: NOT FOUND by the tests $filter of $file"
                missed=1
            fi
        elif ! simulation_finds "$name" "$hint"; then
            echo "$name: NOT FOUND in $seeds seeds"
            missed=1
        fi
        patch --quiet --strip=1 --reverse <"$patch"
    done
    return "$missed"
}

failed=0
for ((lane = 1; lane < lanes; lane++)); do
    (run_lane "$lane" "$@") &
done
(run_lane 0 "$@") || failed=1
for job in $(jobs -p); do
    wait "$job" || failed=1
done
exit "$failed"
