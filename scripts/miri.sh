#!/usr/bin/env bash
# Runs tests of the pure folders under Miri, which finds undefined behaviour: the heart has no
# unsafe code of its own, but what it is built of has (tables, shared messages, hashes, searches,
# the inflater).
#
#   scripts/miri.sh           unit tests of base, wire and chat
#   scripts/miri.sh all       these, those of the client, the codecs' vectors, and the mailbox with
#                             real threads, a real channel and a real poll, under many schedules
#
# It needs nightly Rust with Miri: `rustup component add --toolchain nightly miri rust-src`. Where
# that is missing it says so, and fails only if `all` was asked for.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

what=${1:-pure}
if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "skipped: Miri is not installed (rustup component add --toolchain nightly miri rust-src)"
    [[ $what != all ]]
    exit
fi

# A target directory of its own: Miri's sysroot is none that others can use.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri

# miri ARGUMENT...: the features that bring C code or an engine are left out.
miri() {
    cargo +nightly miri test --quiet --locked --no-default-features "$@"
}

miri --lib -- base:: wire:: chat::
if [[ $what == all ]]; then
    miri --lib -- client:: store::codec::
    miri --test wire
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..16" \
        miri --test mailbox -- --skip every_order
fi
