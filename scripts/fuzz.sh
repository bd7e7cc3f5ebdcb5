#!/usr/bin/env bash
# Feeds arbitrary bytes to every decoder and to the whole heart (tests/fuzz), beginning with the
# kept corpus.
#
#   scripts/fuzz.sh                     every target for 30 s, as many at a time as there are cores
#   scripts/fuzz.sh 600                 every target for 10 minutes
#   scripts/fuzz.sh 600 native shard    these alone
#   scripts/fuzz.sh keep [TARGET...]    makes the kept corpus the smallest one that reaches all that
#                                       it and the inputs of earlier runs reach
#
# FUZZ_JOBS=N runs N targets at a time. Nothing has to be installed but Rust and a C++ compiler, in
# which libFuzzer is built: any toolchain will do. It prints a line for each target, and fails if
# one found something; the input lies in tests/fuzz/artifacts then, and a line says how to repeat
# it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-target}/fuzz
built=$target_dir/$host/release
found=$target_dir/found
logs=$target_dir/logs
jobs=${FUZZ_JOBS:-$(nproc)}

# What libFuzzer is guided by: which edges were taken, and what was compared with what. There is no
# sanitizer: the code under test is safe Rust. `--target` keeps the flags from build scripts.
build() {
    local flags=(
        --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
        -Cllvm-args=-sanitizer-coverage-pc-table
        -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1
    )
    RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=$target_dir cargo build --quiet --release --locked \
        --manifest-path tests/fuzz/Cargo.toml --target "$host" --bins
}

# run SECONDS TARGET: prints what came of it. False if it found something.
run() {
    local target=$2 log=$logs/$2 code=0 first last verdict
    mkdir -p "$found/$target" tests/fuzz/artifacts
    # At the lowest priority a second of work may take a minute.
    "$built/$target" "-max_total_time=$1" -max_len=4096 -timeout=180 -rss_limit_mb=2048 \
        -print_final_stats=1 "-artifact_prefix=tests/fuzz/artifacts/$target-" \
        "$found/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 || code=$?
    first=$(sed -n 's/.*INITED cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    last=$(sed -n 's/.* cov: \([0-9]*\) ft: .*/\1/p' "$log" | tail -n 1)
    verdict=$( ((code == 0)) && echo "nothing found" || echo FOUND)
    printf '%-10s %10s inputs %7s/s, edges %5s -> %5s: %s\n' "$target" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
        "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")" \
        "${first:-?}" "${last:-?}" "$verdict"
    if ((code != 0)); then
        grep -E -A 2 '^thread .* panicked at |ERROR: libFuzzer' "$log" >&2 || tail -n 20 "$log" >&2
        sed -n "s|.*Test unit written to \(.*\)|repeat it: $built/$target \1|p" "$log" >&2
    fi
    return "$code"
}

# keep TARGET
keep() {
    local target=$1 smaller
    smaller=$(mktemp -d)
    mkdir -p "$found/$target"
    "$built/$target" -set_cover_merge=1 -use_counters=0 -max_len=4096 "$smaller" \
        "tests/fuzz/corpus/$target" "$found/$target" >"$logs/$target" 2>&1 || return
    rm -rf "tests/fuzz/corpus/$target"
    cp -r "$smaller" "tests/fuzz/corpus/$target"
    chmod 755 "tests/fuzz/corpus/$target"
    rm -rf "$smaller"
    printf '%-10s %5s inputs\n' "$target" "$(find "tests/fuzz/corpus/$target" -type f | wc -l)"
}

order=${1:-30}
shift || true
if (($# == 0)); then
    set -- $(cd tests/fuzz/fuzz_targets && printf '%s\n' *.rs | sed 's/\.rs$//')
fi
mkdir -p "$logs"
began=$SECONDS
build
echo "built in $((SECONDS - began)) s"

rm -f "$logs/failed"
for target; do
    while (($(jobs -rp | wc -l) >= jobs)); do
        wait -n || true
    done
    if [[ $order == keep ]]; then
        keep "$target" || touch "$logs/failed" &
    else
        run "$order" "$target" || touch "$logs/failed" &
    fi
done
wait
[[ ! -e $logs/failed ]]
