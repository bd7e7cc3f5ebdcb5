#!/usr/bin/env bash
# Runs the original Autobahn test suite against the server's /echo, compression included.
#
#   scripts/autobahn.sh                 sections 1 to 7, 9, 10, and the shorter cases of 12 and 13
#   scripts/autobahn.sh '9.*' '12.1.*'  these cases
#
# The suite is a program of 2015: it needs Python 2.7 with pip, named by PYTHON2 where it is not
# called python2.7. What it needs beside is installed into the target directory. It takes some
# minutes, most of them Python's, so it is no part of scripts/test.sh: tests/rfc6455.rs has the same
# cases. The script fails if a case is neither OK nor, by the suite's own design, informational.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON2:-python2.7}
if ! "$python" -m pip --version >/dev/null 2>&1; then
    echo "autobahn.sh: $python with pip is missing; install Python 2.7, or name it by PYTHON2" >&2
    exit 2
fi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
suite=$target/autobahn
report=$suite/report

if [[ ! -e $suite/complete ]]; then
    rm -rf "$suite"
    # An earlier txaio than pip would pick: the suite's own autobahn is of the same year.
    "$python" -m pip install --quiet --target "$suite/packages" \
        autobahntestsuite==0.8.2 autobahn==0.10.9 Twisted==20.3.0 txaio==2.1.0
    touch "$suite/complete"
fi

cargo build --quiet --locked
log=$(mktemp)
"$target/debug/corebeat" serve --listen 127.0.0.1:0 --deflate on 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -f "$log"' EXIT
address=
for _ in {1..100}; do
    address=$(sed -n 's/.* listening on //p' "$log")
    [[ -z $address ]] || break
    sleep 0.1
done
[[ -n $address ]] || {
    cat "$log" >&2
    exit 1
}

python3 - "$suite/cases.json" "$report" "ws://$address/echo" "$@" <<'PYTHON'
import json, sys

spec, report, url, *cases = sys.argv[1:]
compressed = [f"{section}.*.{case}" for section in (12, 13) for case in (1, 2, 3, 4, 5, 11)]
everything = [f"{section}.*" for section in (1, 2, 3, 4, 5, 6, 7, 9, 10)] + compressed
json.dump({
    "outdir": report,
    "servers": [{"agent": "corebeat", "url": url}],
    "cases": cases or everything,
    "exclude-cases": [],
    "exclude-agent-cases": {},
}, open(spec, "w"))
PYTHON

rm -rf "$report"
# Packages that share a name space are found only in a folder that is told to be a site's.
start='import site, sys; site.addsitedir(sys.argv.pop(1))
from autobahntestsuite import wstest; wstest.run()'
PYTHONWARNINGS=ignore "$python" -c "$start" "$suite/packages" --mode fuzzingclient \
    --spec "$suite/cases.json" >"$suite/log" 2>&1 || {
    tail -n 20 "$suite/log" >&2
    exit 1
}

python3 - "$report" <<'PYTHON'
import collections, json, sys

cases = json.load(open(f"{sys.argv[1]}/index.json"))["corebeat"]
verdicts = collections.Counter()
for name, case in cases.items():
    verdict = {case["behavior"], case["behaviorClose"]}
    verdicts["OK" if verdict == {"OK"} else "/".join(sorted(verdict))] += 1
    if not verdict <= {"OK", "INFORMATIONAL"}:
        print(f"case {name}: {case['behavior']}, closing {case['behaviorClose']}")
print(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
print(f"report: {sys.argv[1]}/index.html")
sys.exit(not cases or any("FAILED" in v or "NON-STRICT" in v or "UN" in v for v in verdicts))
PYTHON
