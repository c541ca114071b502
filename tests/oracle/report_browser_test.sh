#!/usr/bin/env bash
# A report in headless Chromium, light and dark: no messages on its console, no request to anything outside, figures that are
# drawn. SCREENSHOTS: a folder to keep pictures in.
#   report_browser_test.sh SLUICE [REPORT.html]     default: that of tests/end_to_end/report_test.sh
set -euo pipefail
export SLUICE=$(realpath "$1") SOURCE=$(cd "$(dirname "$0")/../.." && pwd)
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$chromium" ] || { echo "skipped: no chromium (package chromium)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "error: $*"; exit 1; }
report=$work/report.html
if [ $# -ge 2 ]; then cp "$2" "$report"; else REPORT=$report bash "$SOURCE/tests/end_to_end/report_test.sh"; fi

browse() {
  timeout 120 "$chromium" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync --disable-extensions --hide-scrollbars \
    --user-data-dir="$work/profile" --enable-logging=stderr --v=0 "$@" "file://$report"
}
for scheme in light dark; do
  dark=()
  [ $scheme = light ] || dark=(--blink-settings=preferredColorScheme=0)
  browse "${dark[@]}" --window-size=1280,1600 --log-net-log="$work/net.json" --screenshot="$work/$scheme.png" \
    2> "$work/console" || { cat "$work/console"; fail "chromium ($scheme)"; }
  ! grep 'CONSOLE' "$work/console" || fail "messages on the console ($scheme)"
  [ -s "$work/net.json" ] || fail "chromium has not logged what it asks for"
  # But for what the browser asks for itself.
  ! grep -oE '"url":"(https?|wss?|ftp)://[^"]*"' "$work/net.json" |
    grep -vE '//(accounts\.google\.com|[a-z0-9-]+-pa\.googleapis\.com|update\.googleapis\.com|clients[0-9]*\.google\.com|www\.google\.com|android\.clients\.google\.com|[a-z0-9.-]+\.gvt1\.com)[/:]' ||
    fail "a request to the outside ($scheme)"
  [ "$(stat -c %s "$work/$scheme.png")" -gt 20000 ] || fail "an empty picture ($scheme)"
  [ -z "${SCREENSHOTS:-}" ] || cp "$work/$scheme.png" "$SCREENSHOTS/report_$scheme.png"
done
! cmp -s "$work/light.png" "$work/dark.png" || fail "dark looks like light"
browse --dump-dom > "$work/dom" 2> /dev/null
figures=$(grep -c '<svg' "$report")
[ "$(grep -o '<svg' "$work/dom" | wc -l)" -eq "$figures" ] && [ "$figures" -gt 0 ] || fail "not all figures are in the page"
echo "$figures figures, light and dark, no message, no request"
