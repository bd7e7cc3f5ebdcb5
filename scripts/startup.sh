#!/usr/bin/env bash
# Measures how long a server with `--data` takes to start: fills a store through `corebeat bench`,
# kills the server without a word, starts it again, stops it in order, and starts it once more.
# Prints what was kept, and medians of the rounds, each with a new store.
#
#   scripts/startup.sh [--rounds N] [--duration SECONDS] [--data DIR]
#
# One plan has 64 messages of each of 50 rooms under way, so that many come in one commit; the other
# one message of each of 100 rooms. The store lies in a new folder within DIR, which is the system's
# folder for temporary files unless told otherwise. CB_PROGRAM names a corebeat that is built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=3 duration=6 data=${TMPDIR:-/tmp}
while (($# > 0)); do
    case $1 in
    --rounds) rounds=$2 ;;
    --duration) duration=$2 ;;
    --data) data=$2 ;;
    *)
        sed -n '6,10s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done

program=${CB_PROGRAM-}
if [ -z "$program" ]; then
    cargo build --quiet --release --locked
    program=${CARGO_TARGET_DIR:-target}/release/corebeat
fi

exec python3 - "$program" "$rounds" "$duration" "$data" <<'PYTHON'
import pathlib, re, shutil, signal, statistics, subprocess, sys, tempfile

program, rounds, duration, data = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
PLANS = [("many at once", 50, 64), ("one by one", 100, 1)]
OPTIONS = ["--history-count", "1000000", "--history-bytes", "64MiB", "--history-memory", "1GiB"]
OPTIONS += ["--message-rate", "0", "--byte-rate", "0"]
READ = re.compile(r"read (\d+) messages of (\d+) rooms .* in (\d+) ms")
MIB = 1 << 20


class Server:
    """A server on the store, once it listens."""

    def __init__(self, store):
        command = [program, "serve", "--listen", "127.0.0.1:0", "--workers", "1"]
        command += ["--data", str(store), "--durability", "batch", *OPTIONS]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.address, self.read = None, None
        for line in self.process.stderr:
            if found := re.search(r"listening on (\S+)", line):
                self.address = found[1]
            if found := READ.search(line):
                self.read = tuple(int(number) for number in found.groups())
            if "try: " in line:
                return
        sys.exit("startup.sh: the server did not start")

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def end(self, how):
        self.process.send_signal(how)
        self.process.stderr.read()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


def load(server, rooms, in_flight):
    plan = ["-c", str(2 * rooms), "--rooms", str(rooms), "-w", str(in_flight), "-d", f"{duration}s"]
    patient = ["--warm-up", "1s", "--lag", "1s", "--busy", "100%", "--target", server.address]
    run = subprocess.run([program, "bench", "broadcast", *plan, *patient], capture_output=True,
                         text=True)
    if run.returncode != 0:
        sys.exit(run.stdout + run.stderr)


def size(files):
    return sum(file.stat().st_blocks * 512 for file in files if file.is_file())


def round_of(rooms, in_flight):
    store = pathlib.Path(tempfile.mkdtemp(prefix="corebeat-startup.", dir=data))
    try:
        with Server(store) as server:
            load(server, rooms, in_flight)
            server.end(signal.SIGKILL)
        with Server(store) as server:
            after_kill_ms = server.read[2]
            server.end(signal.SIGTERM)
        on_disk, journals = size(store.rglob("*")), size(store.rglob("*.jnl"))
        with Server(store) as server:
            messages, _, after_stop_ms = server.read
            resident = server.resident_bytes()
            server.end(signal.SIGTERM)
        return messages, on_disk, journals, after_stop_ms, after_kill_ms, resident
    finally:
        shutil.rmtree(store)


print(f"Medians of {rounds} rounds, with the least and the most.\n")
print("| what was kept | messages | disk, of it journals | start after a stop | after `kill -9` "
      "| process |")
print("| --- | ---: | ---: | ---: | ---: | ---: |")
for name, rooms, in_flight in PLANS:
    all_rounds = [round_of(rooms, in_flight) for _ in range(rounds)]
    columns = list(zip(*all_rounds))
    median = [statistics.median(column) for column in columns]

    def told(column):
        least, most = min(columns[column]) / 1000, max(columns[column]) / 1000
        return f"{median[column] / 1000:.2f} s ({least:.2f} to {most:.2f})"

    print(f"| {rooms} rooms, {name} | {median[0]:,.0f} | {median[1] / MIB:.0f}, "
          f"{median[2] / MIB:.0f} MiB | {told(3)} | {told(4)} | {median[5] / MIB:.0f} MiB |",
          flush=True)
PYTHON
