#!/usr/bin/env bash
# Counts the instructions of the server's hot operations and compares them with the recorded counts.
#
#   scripts/instructions.sh            fails when an operation grew by more than 2 %
#   scripts/instructions.sh --record   writes what it counts to benches/instructions.toml
#
# The operations are the cases of benches/instructions/. Callgrind counts instructions instead of
# measuring time, so the figures repeat exactly, however busy the machine. They are a compiler's
# figures: under another rustc than the recorded one they are shown, but not judged.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
recorded=benches/instructions.toml

mode=compare
case "${1-}" in
'') ;;
--record) mode=record ;;
*)
    echo "usage: scripts/instructions.sh [--record]" >&2
    exit 2
    ;;
esac

for tool in valgrind python3; do
    if ! command -v "$tool" >/dev/null; then
        echo "instructions.sh: $tool is missing; install it: apt-get install $tool" >&2
        exit 2
    fi
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The bench profile inherits release: fat LTO, one codegen unit, symbols kept.
cargo bench --quiet --locked --bench instructions --no-run \
    --message-format=json >"$scratch/build.json"
program=$(python3 - "$scratch/build.json" <<'PYTHON'
import json, sys
built = (json.loads(line) for line in open(sys.argv[1]))
print([it["executable"] for it in built
       if it["reason"] == "compiler-artifact" and it["target"]["name"] == "instructions"][-1])
PYTHON
)

# The environment is emptied, because its size moves the stack and with it the alignment of copies.
names=$("$program")
for name in $names; do
    operations=$(env -i "$(command -v valgrind)" --tool=callgrind --quiet \
        --toggle-collect='*instructions::measured*' \
        --callgrind-out-file="$scratch/$name.callgrind" "$program" "$name")
    instructions=$(sed -n 's/^totals: \([0-9]*\).*/\1/p' "$scratch/$name.callgrind")
    echo "$name $operations ${instructions:-0}" >>"$scratch/counts"
done

python3 - "$mode" "$recorded" "$scratch/counts" "$(rustc --version)" <<'PYTHON'
import os, re, sys

mode, recorded, counts, compiler = sys.argv[1:]
TOLERANCE = 0.02
HEADER = """\
# Instructions of one operation each, written by `scripts/instructions.sh --record`.
# What the operations are is said in benches/instructions/.
"""

counted = {}
for line in open(counts):
    name, operations, instructions = line.split()
    if instructions == "0":
        sys.exit(f"instructions.sh: callgrind counted nothing for {name}: "
                 "is `measured` still a function of its own, and are symbols kept?")
    counted[name] = int(instructions) / int(operations)

if mode == "record":
    with open(recorded, "w") as out:
        out.write(f'{HEADER}compiler = "{compiler}"\n\n[instructions]\n')
        out.writelines(f"{name} = {count:.2f}\n" for name, count in counted.items())

text = open(recorded).read() if os.path.exists(recorded) else ""
before = {name: float(count) for name, count in re.findall(r"^(\w+) = ([\d.]+)$", text, re.M)}
their_compiler = re.search(r'^compiler = "(.*)"$', text, re.M)
judged = their_compiler is not None and their_compiler[1] == compiler

failures, advice = [], []
print(f"{'instructions of one':<22} {'recorded':>12} {'counted':>12} {'change':>9}")
for name in counted | before:
    was, now = before.get(name), counted.get(name)
    change = now / was - 1 if was and now else None
    cells = ["" if it is None else f"{it:.2f}" for it in (was, now)]
    shown = "" if change is None else f"{change:+.2%}"
    print(f"{name:<22} {cells[0]:>12} {cells[1]:>12} {shown:>9}")
    if was is None:
        failures.append(f"{name} is not recorded")
    elif now is None:
        failures.append(f"{name} is recorded, but there is no such case")
    elif change > TOLERANCE:
        failures.append(f"{name} grew by {change:.1%}")
    elif change < -TOLERANCE:
        advice.append(f"{name} shrank by {-change:.1%}")

remedy = "scripts/instructions.sh --record, in the commit that explains why"
if advice:
    print(f"{'; '.join(advice)}. Keep the gain: {remedy}")
if not judged:
    print(f"NOT JUDGED: the counts were recorded with another compiler than {compiler}.")
elif failures:
    sys.exit(f"{'; '.join(failures)}. If that is meant: {remedy}")
PYTHON
