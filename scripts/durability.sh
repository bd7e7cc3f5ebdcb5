#!/usr/bin/env bash
# Measures what storage costs: publishing in a closed loop with `--data` and a durability, against
# the same in memory, in turns within one run. Prints medians with their spread, and ratios.
#
#   scripts/durability.sh [--rounds N] [--duration SECONDS] [--durability MODE] [--data DIR]
#                         [MEMBERS...]
#
# MEMBERS of a room: 2, 10 or 100; all three unless told otherwise. The store lies in a new folder
# within DIR, which is the system's folder for temporary files unless told otherwise; it should be
# on the disk that is to be judged. CB_PROGRAM names a corebeat that is built already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=5 duration=3 durability=batch data=${TMPDIR:-/tmp}
while (($# > 0)); do
    case $1 in
    --rounds) rounds=$2 ;;
    --duration) duration=$2 ;;
    --durability) durability=$2 ;;
    --data) data=$2 ;;
    -*)
        sed -n '5,10s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    *) break ;;
    esac
    shift 2
done
(($# > 0)) || set -- 100 10 2

program=${CB_PROGRAM-}
if [ -z "$program" ]; then
    cargo build --quiet --release --locked
    program=${CARGO_TARGET_DIR:-target}/release/corebeat
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"; rm -rf "${store-}"' EXIT

# As many publishers and messages under way as keep the server busy.
plan_of() {
    case $1 in
    100) echo "-c 500 --rooms 5 --publishers 2 -w 32" ;;
    10) echo "-c 500 --rooms 50 --publishers 2 -w 32" ;;
    2) echo "-c 100 --rooms 50 --publishers 1 -w 64" ;;
    *)
        echo "durability.sh: rooms of 2, 10 or 100 members, not $1" >&2
        exit 2
        ;;
    esac
}

run() { # plan, name, options of the server
    # The plan is several words, and the server's options are one.
    # shellcheck disable=SC2086
    if ! "$program" bench broadcast $1 --workers 1 -d "${duration}s" --warm-up 1s --lag 1s \
        --busy 100% --serve "$3" --json "$scratch/$2.json" >"$scratch/output" 2>&1; then
        cat "$scratch/output" >&2
        exit 1
    fi
}

for members; do
    plan=$(plan_of "$members")
    for ((round = 0; round < rounds; round++)); do
        run "$plan" "$members-memory-$round" ""
        store=$(mktemp -d "$data/corebeat-durability.XXXXXX")
        run "$plan" "$members-$durability-$round" \
            "--data $store --durability $durability"
        rm -rf "$store"
    done
done

python3 - "$scratch" "$rounds" "$durability" "$@" <<'PYTHON'
import json, statistics, sys

scratch, rounds, durability, *members = sys.argv[1:]

def figures(members, mode):
    runs = [json.load(open(f"{scratch}/{members}-{mode}-{round}.json"))["results"]
            for round in range(int(rounds))]
    return ([run["traffic"]["deliveries_per_s"] for run in runs],
            [run["server"]["us_per_delivery"] * 1000 for run in runs])

def told(values):
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"

def change(before, after):
    each = sorted(100 * (b / a - 1) for a, b in zip(before, after))
    return f"{statistics.median(each):+.0f} % ({each[0]:+.0f} to {each[-1]:+.0f})"

print(f"Medians of {rounds} rounds, with the least and the most. Changes are within a round.\n")
print(f"| members | deliveries/s in memory | {durability} | change "
      f"| ns of processor/delivery in memory | {durability} | change |")
print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
for count in members:
    (rate, cost), (stored_rate, stored_cost) = figures(count, "memory"), figures(count, durability)
    print(f"| {count} | {told(rate)} | {told(stored_rate)} | {change(rate, stored_rate)} "
          f"| {told(cost)} | {told(stored_cost)} | {change(cost, stored_cost)} |")
PYTHON
