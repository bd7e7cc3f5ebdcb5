#!/usr/bin/env bash
# Tests the client script and the page: alone, by the type checker, and against the real server on
# Node and in headless Chromium.
#
#   scripts/browser.sh
#
# It needs Node 20 or newer with npm, and Chromium. The three packages that the tests use are
# installed below tests/browser, in the versions of its lock file; none is part of the server.
# COREBEAT names another program to test than the one that is built here.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

for program in node npm; do
    command -v "$program" >/dev/null || {
        echo "browser.sh: $program is missing; install it: apt-get install nodejs npm" >&2
        exit 1
    }
done
if (($(node --print 'parseInt(process.versions.node)') < 20)); then
    echo "browser.sh: Node $(node --version) is too old; install 20 or newer: nodejs.org" >&2
    exit 1
fi

if [[ -z ${COREBEAT:-} ]]; then
    cargo build --locked
    COREBEAT=$(cargo metadata --locked --format-version 1 --no-deps |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/corebeat
fi
export COREBEAT

# What npm installed last is noted there; an installation that is up to date is left alone.
cd tests/browser
if ! cmp -s package-lock.json node_modules/.corebeat-lock.json; then
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/.corebeat-lock.json
fi

echo "== the client script and the page's own parts"
node --test --test-reporter=dot ../../src/web/test/
echo "== types"
node_modules/.bin/tsc --project .
echo "== the client script on Node, against the server"
node --test --test-reporter=dot client.test.js
echo "== the page in Chromium, against the server"
node --test --test-reporter=dot page.test.js
