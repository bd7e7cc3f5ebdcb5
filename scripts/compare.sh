#!/usr/bin/env bash
# Compares corebeat with its two tokio twins and the kernel's floor: builds all of them, runs them
# in turns, prints one table and writes one page. docs/benchmarks.md says what the rows mean.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'END'
Compares corebeat with its two tokio twins and the kernel's floor.

  scripts/compare.sh                 five rounds, under 15 minutes
  scripts/compare.sh --quick         three short ones, under two
  scripts/compare.sh --rounds 9      another number of rounds
  scripts/compare.sh --dialect ws-json --trials one_in_flight,sixteen_in_flight

Options:
  --quick            three short rounds; the idle, storm and 90 % trials in the first only
  --rounds COUNT     rounds
  --dialect DIALECT  native; or ws-json or ws-bin, which the floor does not speak [default: native]
  --trials TRIALS    these only, separated by commas: one_in_flight, sixteen_in_flight, half_load,
                     nine_tenths_load, half_load_two_workers, storm, idle [default: all]
  --html FILE        the page with charts [default: target/versus/compare.html]
  --json FILE        every figure of every round [default: target/versus/compare.json]
  --markdown FILE    the tables for a page of documentation [default: target/versus/compare.md]
  --build-only       build what is needed, and measure nothing
  --help             this text

Two processors are needed. Nothing else should run on the machine: a trial during which others use
more than a tenth of it is discarded and repeated. Building takes some minutes the first time.
As root it also tells the kernel's memory per connection. CARGO_TARGET_DIR is respected.
END
}

# One line that names the remedy.
fail() {
    echo "compare.sh: $1" >&2
    exit 2
}

# Paths are meant from where the script was called, not from the repository.
from_here() {
    case $1 in
        /*) echo "$1" ;;
        *) echo "$OLDPWD/$1" ;;
    esac
}

target=${CARGO_TARGET_DIR:-target}
html=$target/versus/compare.html
json=$target/versus/compare.json
markdown=$target/versus/compare.md
arguments=()
measure=yes
while (($# > 0)); do
    case $1 in
        --help | -h)
            usage
            exit
            ;;
        --quick) arguments+=("$1") ;;
        --build-only) measure=no ;;
        --rounds | --dialect | --trials | --html | --json | --markdown)
            (($# > 1)) || fail "$1 needs a value; see --help"
            case $1 in
                --rounds | --dialect | --trials) arguments+=("$1" "$2") ;;
                --html) html=$(from_here "$2") ;;
                --json) json=$(from_here "$2") ;;
                --markdown) markdown=$(from_here "$2") ;;
            esac
            shift
            ;;
        *) fail "$1 is no option; see --help" ;;
    esac
    shift
done

command -v cargo >/dev/null || fail "cargo is missing; install Rust: https://rustup.rs"
command -v taskset >/dev/null || fail "taskset is missing; install it: apt-get install util-linux"
(($(nproc) >= 2)) || fail "two processors are needed; run it on a machine that has them"

cargo build --release --locked --quiet --bin corebeat --example tokio_tuned --example tokio_plain
cargo bench --locked --quiet --bench versus --no-run
[[ $measure == yes ]] || exit 0

mkdir -p "$target/versus"
cargo bench --locked --quiet --bench versus -- \
    --html "$html" --json "$json" --markdown "$markdown" "${arguments[@]}"
echo "page: $html"
