#!/usr/bin/env bash
# Runs the README's commands: the server, two `nc` that chat, and the Python example.
#
#   scripts/smoke.sh
#
# The commands are the README's own; only the port differs, so that a busy 8080 disturbs nobody. The
# server is built as the README builds it, which takes a minute the first time.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=$(mktemp -d)
started=()

# Ends what was started here, and nothing else.
clean_up() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap clean_up EXIT

fail() {
    echo "smoke.sh: $1" >&2
    for log in "$scratch"/*.log; do
        sed "s|^|  ${log##*/}: |" "$log" >&2
    done
    exit 1
}

# Waits until a line of a file matches a pattern; gives up after half a minute.
await() {
    local file=$1 pattern=$2 deadline=$((SECONDS + 30))
    until grep -qs -- "$pattern" "$file"; do
        ((SECONDS < deadline)) || fail "nothing in ${file##*/} matches: $pattern"
        sleep 0.05
    done
}

command -v nc >/dev/null || fail "nc is missing; install it: apt-get install netcat-openbsd"

cargo build --release --locked --quiet
# Where others take the processors away, it would refuse whoever comes.
export COREBEAT_OVERLOAD_LAG=off
COREBEAT_LISTEN=127.0.0.1:0 cargo run --release --locked --quiet 2>"$scratch/server.log" &
server=$!
started+=("$server")
await "$scratch/server.log" 'try: nc'
address=$(sed -n 's/.* listening on //p' "$scratch/server.log")
host=${address%:*} port=${address##*:}

# A client of the text dialect; what it types is written to its pipe.
chat() {
    mkfifo "$scratch/$1.pipe"
    nc "$host" "$port" <"$scratch/$1.pipe" >"$scratch/$1.log" &
    started+=("$!")
}

chat ann
exec {ann}>"$scratch/ann.pipe"
echo '/nick ann' >&"$ann"
await "$scratch/ann.log" 'you are in lobby'
chat bob
exec {bob}>"$scratch/bob.pipe"
echo '/nick bob' >&"$bob"
await "$scratch/ann.log" 'bob joined lobby'
echo 'good evening' >&"$bob"
await "$scratch/ann.log" '^\[lobby\] bob: good evening'
echo 'good evening to you' >&"$ann"
await "$scratch/bob.log" '^\[lobby\] ann: good evening to you'
echo "two nc chat through $address"

python3 docs/examples/native.py "$host" "$port" python >"$scratch/python.log" 2>&1 &
started+=("$!")
await "$scratch/ann.log" '^\[lobby\] python: '
echo 'good evening, python' >&"$ann"
await "$scratch/python.log" '^ann says good evening, python'
echo "docs/examples/native.py speaks native in the same lobby"

echo '/quit' >&"$bob"
# `cargo run` becomes the server, so this is the server's own number.
kill -TERM "$server"
wait "$server" || fail "the server did not stop with exit code 0"
await "$scratch/server.log" 'stopped after'
await "$scratch/ann.log" 'server'
echo "SIGTERM drains it: $(sed -n 's/.*\(stopped after [^,]*, [0-9]* connections cut\).*/\1/p' \
    "$scratch/server.log")"
