#!/usr/bin/env bash
# Profiles one process under the load of `corebeat bench`; see docs/profiling.md.
#
# Only the measured time is looked at. What comes of it lies in one folder; begin with report.md.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: scripts/profile.sh [server|bench|twin] [options] [-- options of corebeat bench]

Starts a server and `corebeat bench` against it, on a free port of 127.0.0.1, and profiles one:
  server   corebeat serve (the default)        bench   the load generator
  twin     a tokio server of benches/versus

  --scenario NAME      broadcast, idle, echo, churn, storm, slow or mixed [broadcast]
  --duration SECONDS   measured time; of no use to storm, which ends when all are back [10]
  --twin NAME          plain or tuned [tuned]
  --workers COUNT      worker threads of the server [1]
  --serve OPTIONS      further options of the server, as in --serve "--heartbeat 25s"
  --frequency HERTZ    samples a second and thread [997]
  --event NAME         what is sampled [cycles where the machine counts them, else cpu-clock]
  --stacks HOW         how callers are found: dwarf or fp, frame pointers [dwarf]
  --syscalls HOW       count system calls by tracepoints, strace or none
                       [tracepoints where they may be read, else strace]
  --out DIR            where the results go [target/profile/SUBJECT-SCENARIO-TIME]

After `--`, options of the generator, as in: -- --in-flight 16 --rooms 1 --spin
HELP
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "profile.sh: $1" >&2
    exit 2
}

subject=server scenario=broadcast duration=10 twin=tuned workers=1 serve='' frequency=997
event='' syscalls='' out='' stacks=dwarf
case "${1-}" in
server | bench | twin)
    subject=$1
    shift
    ;;
'' | -*) ;;
*) fail "$1 cannot be profiled; choose server, bench or twin" ;;
esac
command_line="scripts/profile.sh $subject $*"
while (($# > 0)); do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --)
        shift
        break
        ;;
    --scenario | --duration | --twin | --workers | --serve | --frequency | --event | --stacks | \
        --syscalls | --out)
        (($# > 1)) || fail "$1 needs a value; see --help"
        declare "${1#--}=$2"
        shift 2
        ;;
    *) fail "$1 is not known; see --help, and put options of the generator behind --" ;;
    esac
done
load=("$@")

[[ $duration =~ ^[1-9][0-9]*$ ]] || fail "--duration $duration: write whole seconds"
[[ $frequency =~ ^[1-9][0-9]*$ ]] || fail "--frequency $frequency: write a whole number"
[[ $workers =~ ^[1-9][0-9]*$ ]] || fail "--workers $workers: write a whole number"
[[ $twin == plain || $twin == tuned ]] || fail "--twin $twin: choose plain or tuned"
[[ $stacks == dwarf || $stacks == fp ]] || fail "--stacks $stacks: choose dwarf or fp"
[[ $syscalls =~ ^(|tracepoints|strace|none)$ ]] ||
    fail "--syscalls $syscalls: choose tracepoints, strace or none"

# The tools, each with its remedy.
target=${CARGO_TARGET_DIR:-target}
inferno_version=0.12.8
PATH=$PATH:$target/profile-tools/bin
command -v perf >/dev/null || fail "perf is missing; install it: apt-get install linux-perf"
command -v python3 >/dev/null || fail "python3 is missing; install it: apt-get install python3"
command -v inferno-flamegraph >/dev/null && command -v inferno-collapse-perf >/dev/null || fail \
    "inferno is missing; install it: cargo install inferno --version $inferno_version --locked \
--root $target/profile-tools"
paranoid=$(cat /proc/sys/kernel/perf_event_paranoid 2>/dev/null || echo 4)
if [[ $(id -u) != 0 ]] && ((paranoid > 1)); then
    fail "perf may not look into the kernel (perf_event_paranoid is $paranoid); allow it: \
sudo sysctl kernel.perf_event_paranoid=1 kernel.kptr_restrict=0"
fi
if [[ -z $event ]]; then
    event=cpu-clock
    # A virtual machine often has no counters.
    if ! perf stat -e cycles -- true 2>&1 | grep -q 'not supported\|not counted'; then
        event=cycles
    fi
fi
tracing=/sys/kernel/tracing
if [[ -z $syscalls ]]; then
    syscalls=strace
    [[ -r $tracing/events/syscalls/sys_enter_sendto/id ]] && syscalls=tracepoints
fi
if [[ $syscalls == strace ]]; then
    command -v strace >/dev/null || fail "strace is missing; install it: apt-get install strace"
fi

out=${out:-$target/profile/$subject-$scenario-$(date +%Y%m%d-%H%M%S)}
mkdir -p "$out/data"
out=$(realpath "$out")
data=$out/data
scratch=$(mktemp -d)
declare -A started=()

# Ends what was started here and still runs, and nothing else.
clean_up() {
    local pid
    for pid in "${!started[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${!started[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Ends one of them and waits for it.
finish() {
    kill "-$2" "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    unset "started[$1]"
}

# Frame pointers make the stacks whole. Everything is built in a folder of its own, because other
# flags would otherwise make cargo build all anew at every change between the two.
build() {
    local wanted=(--bin corebeat)
    [[ $subject == twin ]] && wanted+=(--example "tokio_$twin")
    RUSTFLAGS="${RUSTFLAGS-} -C force-frame-pointers=yes" \
        cargo build --locked --quiet --profile profiling --target-dir "$target/profiling-fp" \
        "${wanted[@]}"
}

# Starts the server, and learns its address.
start_server() {
    local program=("$binaries/corebeat" serve) options=() deadline=$((SECONDS + 20))
    [[ $subject == twin ]] && program=("$binaries/examples/tokio_$twin")
    read -ra options <<<"$serve"
    # A folder that is used again has the log, and the address, of the server before.
    : >"$data/server.log"
    # One connection of the generator speaks for many: without rates.
    COREBEAT_ACCEPT_RATE=0 COREBEAT_MESSAGE_RATE=0 COREBEAT_BYTE_RATE=0 \
        RUST_LOG=info "${program[@]}" --listen 127.0.0.1:0 --workers "$workers" "${options[@]}" \
        </dev/null >"$data/server.log" 2>&1 &
    server=$!
    started[$server]=1
    until address=$(sed -n 's/.*listening on \([0-9.:]*\).*/\1/p' "$data/server.log" | head -n 1) &&
        [[ -n $address ]]; do
        if ((SECONDS > deadline)) || ! kill -0 "$server" 2>/dev/null; then
            fail "the server did not start: $(tail -n 1 "$data/server.log")"
        fi
        sleep 0.05
    done
}

# A pipe on which the generator says when the measured time begins and ends. It is held open here,
# so that no word is lost before its reader is there.
control_pipe() {
    mkfifo "$scratch/$1"
    exec {held}<>"$scratch/$1"
    controls+=(--perf-control "$scratch/$1")
}

# Starts the generator. Its lag is no reason to refuse a profile: the profiler causes some of it.
start_bench() {
    local name=$1
    bench_line=(corebeat bench "$scenario" --target "$address" --server-pid "$server"
        --lag 60s --busy 100 "${load[@]}")
    [[ $scenario == storm ]] || bench_line+=(--duration "${2}s")
    "$binaries/${bench_line[0]}" "${bench_line[@]:1}" "${controls[@]}" --json "$data/$name.json" \
        </dev/null >"$data/$name.txt" 2>&1 &
    bench=$!
    started[$bench]=1
}

wait_for_bench() {
    wait "$bench" || fail "the load failed: $(grep -v '^$' "$data/$1.txt" | tail -n 1)"
    unset "started[$bench]"
}

# Starts perf on the subject's process, to begin when the generator says so.
start_perf() {
    local what=$1 pipe=$2
    shift 2
    perf "$what" "$@" --delay=-1 --control "fifo:$scratch/$pipe" -p "$pid" \
        >"$data/$pipe.log" 2>&1 &
    started[$!]=1
    profilers+=("$!")
}

# Starts strace when the measured time begins, and ends it with it.
trace_when_told() {
    local word tracer
    read -r word
    strace -c -f -q -o "$data/strace.txt" -p "$pid" 2>/dev/null &
    tracer=$!
    read -r word || true
    kill -INT "$tracer" 2>/dev/null || true
    wait "$tracer" 2>/dev/null || true
}

choose_subject() {
    pid=$server
    if [[ $subject == bench ]]; then
        pid=$bench
    fi
}

# The run that is sampled, with the counters that cost nothing.
sample() {
    local counters=task-clock,context-switches,cpu-migrations,page-faults profiler
    [[ $event == cycles ]] && counters+=,cycles,instructions,branch-misses,cache-misses
    controls=() profilers=()
    control_pipe record
    control_pipe stat
    start_bench sampled "$duration"
    choose_subject
    start_perf record record -o "$data/perf.data" -e "$event" -F "$frequency" --call-graph "$stacks"
    start_perf stat stat -o "$data/stat.csv" -x, -e "$counters"
    wait_for_bench sampled
    for profiler in "${profilers[@]}"; do
        finish "$profiler" INT
    done
    [[ -s $data/perf.data ]] || fail "perf recorded nothing: $(tail -n 1 "$data/record.log")"
}

# A second run, so that counting disturbs no sample.
count_system_calls() {
    local call events=() short=$((duration < 5 ? duration : 5))
    controls=() profilers=()
    control_pipe calls
    if [[ $syscalls == strace ]]; then
        short=$((duration < 2 ? duration : 2))
        start_bench counted "$short"
        choose_subject
        trace_when_told <"$scratch/calls" &
        profilers=("$!")
        started[$!]=1
        wait_for_bench counted
        wait "${profilers[0]}" || true
        unset "started[${profilers[0]}]"
        return
    fi
    events=(-e 'syscalls:sys_enter_*')
    # Those that may have been in vain: no bytes, no events, nobody before the door.
    for call in epoll_wait epoll_pwait; do
        events+=(-e "syscalls:sys_exit_$call" --filter 'ret == 0')
    done
    for call in recvfrom read readv recvmsg sendto write writev sendmsg accept4; do
        events+=(-e "syscalls:sys_exit_$call" --filter 'ret < 0')
    done
    start_bench counted "$short"
    choose_subject
    start_perf stat calls -o "$data/calls.csv" -x, "${events[@]}"
    wait_for_bench counted
    finish "${profilers[0]}" INT
}

# Stacks, one a line, roots first; and their picture.
draw() {
    # Without --no-inline perf asks addr2line about every frame, for hours.
    perf script --no-inline -i "$data/perf.data" -F comm,pid,tid,time,event,ip,sym,dso \
        2>"$data/script.log" >"$scratch/stacks"
    # How a thread starts is the same in all stacks and sometimes not found: left out, it does
    # not split them in two.
    inferno-collapse-perf --kernel "$scratch/stacks" 2>"$data/collapse.log" |
        sed -E -e 's/^([^;]*);.*std::sys::backtrace::__rust_begin_short_backtrace;/\1;/' \
            -e 's/^([^;]*);((\[unknown\]|_*clone3?|start_thread);)+/\1;/' >"$data/stacks.folded"
    [[ -s $data/stacks.folded ]] || fail "no samples: $(tail -n 1 "$data/record.log")"
    inferno-flamegraph --title "$subject, $scenario ($event)" --colors rust --hash \
        --countname samples "$data/stacks.folded" >"$out/flame.svg" 2>"$data/flamegraph.log"
}

echo "profile.sh: building (profile \`profiling\`, frame pointers)" >&2
build
binaries=$target/profiling-fp/profiling
start_server
echo "profile.sh: sampling $subject under $scenario" >&2
sample
if [[ $syscalls != none ]]; then
    echo "profile.sh: counting system calls" >&2
    count_system_calls
fi
finish "$server" TERM
draw
python3 scripts/profile-report.py "$out" --subject "$subject" --scenario "$scenario" \
    --event "$event" --frequency "$frequency" --command "$command_line" \
    --bench "${bench_line[*]}" --program "$(head -n 1 "$data/server.log")" >"$out/report.md"
cat "$out/report.md"
echo "profile.sh: $out/report.md, $out/flame.svg" >&2
