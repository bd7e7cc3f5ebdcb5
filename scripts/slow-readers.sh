#!/usr/bin/env bash
# Measures what members that do not read cost those who do.
#
#   scripts/slow-readers.sh [policy...]
#
# 5,000 members, first all reading and then with a tenth of them not: for each policy of --overflow
# the p99 of the others' deliveries and the server's memory, each the median of seven pairs of runs
# that take turns (or of SLOW_PAIRS). It fails if the p99 grows by more than a fifth, or the memory
# by more than 32 KiB, the bound that is set, for each member that does not read. Takes eight
# minutes; the machine should do nothing else. COREBEAT names a program that was built before.
#
# Kernels buffer megabytes before a server notices that a peer does not read. So, as root, it runs
# in a network of its own whose send buffers hold 64 KiB.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
policies=("$@")
((${#policies[@]})) || policies=(disconnect drop-oldest drop-newest latest-only)
pairs=${SLOW_PAIRS:-7}

program=${COREBEAT:-}
if [[ -z $program ]]; then
    cargo build --quiet --release --locked
    program="${CARGO_TARGET_DIR:-target}/release/corebeat"
fi

if [[ -z ${SLOW_NETWORK:-} ]]; then
    export SLOW_NETWORK=1 COREBEAT=$(realpath "$program")
    exec unshare --net scripts/slow-readers.sh "$@"
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ip link set lo up
sysctl -qw net.ipv4.tcp_wmem="4096 16384 65536"

# Lag of the generator is let pass, because it falls on both runs of a pair alike.
run() {
    "$program" bench slow --connections 5000 --rooms 10 --rate 40 --size 4096 --warm-up 2s \
        --duration 10s --lag 20ms --busy 100 --slow "$1" --json "$3" \
        --serve "--max-frame 16KiB --max-outbound 32KiB --overflow $2" >"$3.txt" 2>&1 ||
        { cat "$3.txt" >&2; exit 1; }
}

for ((pair = 1; pair <= pairs; pair++)); do
    run 0 disconnect "$scratch/none-$pair.json"
    for policy in "${policies[@]}"; do
        run 10 "$policy" "$scratch/$policy-$pair.json"
    done
done

python3 - "$scratch" "$pairs" "${policies[@]}" <<'PYTHON'
import json, statistics, sys

scratch, pairs, *policies = sys.argv[1:]


def figures(name):
    """The medians of a policy's runs: p99 in ms, memory at its peak in MiB, readers dealt with."""
    runs = [json.load(open(f"{scratch}/{name}-{pair}.json"))["results"]
            for pair in range(1, int(pairs) + 1)]
    delivery = [next(row for row in run["latencies"] if row["kind"] == "delivery") for run in runs]
    return (statistics.median(row["p99_us"] for row in delivery) / 1e3,
            statistics.median(run["server"]["resident_peak_bytes"] for run in runs) / 2**20,
            min(run["slow"]["dealt_with"] for run in runs) if runs[0].get("slow") else 0)


p99, memory, _ = figures("none")
print(f"{'nobody is slow':15} p99 {p99:7.2f} ms           peak {memory:6.1f} MiB")
failed = False
for policy in policies:
    slow_p99, slow_memory, dealt_with = figures(policy)
    ratio, more = slow_p99 / p99, slow_memory - memory
    print(f"{policy:15} p99 {slow_p99:7.2f} ms, {ratio:4.2f} x  peak {slow_memory:6.1f} MiB, "
          f"{more:+6.1f}  of 500 slow ones {dealt_with} reached the bound")
    # Where hardly anybody was slow, the rest says nothing.
    failed |= ratio > 1.2 or more > 500 * 32 / 1024 or dealt_with < 450
sys.exit(failed)
PYTHON
