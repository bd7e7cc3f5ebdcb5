#!/usr/bin/env bash
# Abuses a release build of the server, as hard as this machine can, beside honest clients who must
# notice nothing. tests/soak.rs has the scenarios; cargo test plays the same ones small.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'END'
Abuses a release build of the server beside honest clients who must notice nothing.

  scripts/soak.sh                          every scenario, in turns, for six minutes
  scripts/soak.sh --hours 8                through the night
  scripts/soak.sh --minutes 1 churn        one of them

Options:
  --minutes COUNT    how long; each scenario is played once at least, whatever it takes
  --hours COUNT      the same in hours
  --help             this text

Scenarios: slowloris half-open reset-flood random-bytes one-byte-writes lengths churn suspended
descriptors clock-jumps no-memory worker-panic

A line for each round of each scenario says what was done, how the connections ended, memory and
descriptors before and behind it, and what an honest client waited at most; docs/reliability.md says
more. The exit code is 0 if all was well. It wants the machine for itself, a C compiler, and a hard
limit on open files of 8,192.

COREBEAT names a program that was built before, and COREBEAT_WITH_DRILL one with debug assertions,
which worker-panic needs: only such a program lets an operator make a worker panic.
END
}

# One line that names the remedy.
fail() {
    echo "soak.sh: $1" >&2
    exit 2
}

seconds=360
scenarios=()
while (($#)); do
    case $1 in
        --minutes | --hours)
            [[ ${2:-} =~ ^[1-9][0-9]{0,5}$ ]] || fail "$1 needs a whole number, such as $1 5"
            [[ $1 == --minutes ]] && unit=60 || unit=3600
            seconds=$(($2 * unit))
            shift 2
            ;;
        --help)
            usage
            exit 0
            ;;
        -*) fail "$1 is no option; scripts/soak.sh --help lists them" ;;
        *)
            scenarios+=("$1")
            shift
            ;;
    esac
done

(($(ulimit -Hn) >= 8192)) || fail "the hard limit on open files is $(ulimit -Hn); raise it to 8192"
ulimit -Sn "$(ulimit -Hn)"

if [[ -z ${COREBEAT:-} ]]; then
    cargo build --quiet --release --locked
    COREBEAT=$(realpath "${CARGO_TARGET_DIR:-target}/release/corebeat")
fi

# Only a program with debug assertions has the drill. That of cargo test has it, but is not
# optimised: 4,000 heartbeats a second are much for it, and a panic unwinds through other code than
# it does in what people run. So another one is made, in a folder of its own where it displaces
# nothing. Without link-time optimisation, which tells nothing here and takes most of the time.
plays_panic=false
((${#scenarios[@]})) || plays_panic=true
for scenario in "${scenarios[@]}"; do
    [[ $scenario == worker-panic ]] && plays_panic=true
done
if $plays_panic && [[ -z ${COREBEAT_WITH_DRILL:-} ]]; then
    folder="${CARGO_TARGET_DIR:-target}/drill"
    CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo build --quiet --release --locked --target-dir "$folder"
    COREBEAT_WITH_DRILL=$(realpath "$folder/release/corebeat")
fi
export COREBEAT_WITH_DRILL

export COREBEAT SOAK_SECONDS=$seconds SOAK_SCENARIOS="${scenarios[*]}"
exec cargo test --quiet --locked --test soak full_size -- --ignored --exact --nocapture
