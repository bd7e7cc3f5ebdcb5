#!/usr/bin/env bash
# The one test command: everything that must hold before a change is taken.
#
#   scripts/test.sh
#
# On a fresh Debian machine with a Rust toolchain it installs what it lacks, where it may, and says
# otherwise what to install. A failed step does not stop the others. The last line counts the steps;
# the exit code is 0 only if none failed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

passed=0
failed=0
summary=()

# Runs one step and notes how it went and how long it took.
step() {
    local name=$1 began=$SECONDS code=0 verdict
    shift
    echo
    echo "== $name"
    # In a subshell of its own, so that `set -e` holds inside of it: in a condition it would not.
    set +e
    (
        set -e
        "$@"
    )
    code=$?
    set -e
    if ((code == 0)); then
        passed=$((passed + 1))
        verdict=passed
    else
        failed=$((failed + 1))
        verdict="FAILED (exit code $code)"
    fi
    summary+=("$(printf '%5d s  %-44s %s' "$((SECONDS - began))" "$name" "$verdict")")
}

# Runs steps in the background, one after the other: what is built with link-time optimization has
# but one core busy for minutes, and many tests wait. What they print is shown by `join`.
aside() {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    (
        "$@"
        declare -p passed failed summary | sed 's/^declare /declare -g /' >"$scratch/verdicts"
    ) >"$scratch/output" 2>&1 &
    beside=$!
}

# Waits for what runs in the background, and counts it.
join() {
    local here=("$passed" "$failed" "${summary[@]}")
    wait "$beside" || true
    cat "$scratch/output"
    # shellcheck source=/dev/null # What the subshell said of its variables.
    source "$scratch/verdicts"
    passed=$((passed + here[0]))
    failed=$((failed + here[1]))
    summary=("${here[@]:2}" "${summary[@]}")
}

# Installs the Debian packages of programs that are missing.
install_packages() {
    local program missing=()
    local wanted=(
        valgrind:valgrind python3:python3 nc:netcat-openbsd cc:gcc c++:g++ patch:patch
        chromium:chromium node:nodejs npm:npm
    )
    for program in "${wanted[@]}"; do
        command -v "${program%%:*}" >/dev/null || missing+=("${program##*:}")
    done
    if ((${#missing[@]} == 0)); then
        return
    fi
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${missing[@]}"
    else
        echo "missing programs; install them: sudo apt-get install ${missing[*]}" >&2
        return 1
    fi
}

# Installs the parts of the toolchain that a minimal one lacks.
install_components() {
    if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then
        return
    fi
    if ! command -v rustup >/dev/null; then
        echo "cargo fmt and cargo clippy are missing; install rustfmt and clippy" >&2
        return 1
    fi
    rustup component add rustfmt clippy
}

install_tools() {
    command -v cargo >/dev/null || {
        echo "cargo is missing; install a Rust toolchain: https://rustup.rs" >&2
        return 1
    }
    install_packages
    install_components
    echo "$(rustc --version), $(nproc) cores"
}

# The server is built on mio alone: no async runtime is in its graph, under any set of features.
no_tokio() {
    local tree
    tree=$(cargo tree --locked --edges normal --all-features --prefix none)
    if grep -E '^(tokio|async-std|smol|async-executor|futures-executor) ' <<<"$tree"; then
        echo "an async runtime is in the dependency graph of the server" >&2
        return 1
    fi
    echo "$(sort -u <<<"$tree" | grep -c .) packages, no async runtime"
}

documentation() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
}

# Arbitrary bytes for every decoder, for half a minute each; in what time is left of both cores, so
# that no test waits for it.
fuzzing() {
    FUZZ_JOBS=$((2 * $(nproc))) nice -n 19 scripts/fuzz.sh 30
}

# A fifth of the faults, and another fifth with the next commit: all of them take as long as the
# tests do. scripts/planted-faults.sh alone tries all.
planted_faults() {
    local faults=(tests/faults/*.patch) chosen=() turn index
    turn=$(git rev-list --count HEAD)
    for index in "${!faults[@]}"; do
        if (((index + turn) % 5 == 0)); then
            chosen+=("${faults[index]}")
        fi
    done
    scripts/planted-faults.sh 300 "${chosen[@]}"
}

# What can be built and tried beside the tests.
beside() {
    passed=0 failed=0 summary=()
    step "instruction counts" scripts/instructions.sh
    step "the README's commands" scripts/smoke.sh
    step "check without default features" \
        cargo clippy --locked --no-default-features --all-targets -- -D warnings
    step "fuzzing" fuzzing
}

step "tools" install_tools
step "format" cargo fmt --check
aside beside
step "clippy" cargo clippy --locked --all-targets -- -D warnings
step "no async runtime" no_tokio
step "tests" cargo test --locked --no-fail-fast
step "client script and page" scripts/browser.sh
step "documentation" documentation
step "planted faults" planted_faults
join

echo
printf '%s\n' "${summary[@]}"
printf '%5d s  in all\n' "$SECONDS"
echo "$passed passed, $failed failed"
((failed == 0))
