#!/bin/sh
# For an owner of a Polaris card (RX 460 to RX 590): figures that docs/gpu.md only predicts, into one file to send back.
#   bench/rx580.sh [DEVICE]      default gpu, the first card; needs `make build` and an OpenCL driver (docs/install-polaris.md)
# The time goes into compiling kernels, half an hour or more on a slow processor; Ctrl-C ends it, and the file keeps what is
# there. The file says nothing about you: card, driver, kernel and times. Read it before you send it.
set -u
cd -- "$(dirname -- "$0")/.."
device=${1:-gpu}
binary=${POLESTAR:-build/release/bin/polestar}
out=polestar-$(date -u +%Y%m%d-%H%M%S).txt
[ -x "$binary" ] && [ -x build/release/tests/gpu_time ] || { echo "rx580: build first: make build" >&2; exit 1; }
trap 'rm -f "$out.log"' EXIT
trap 'echo "rx580: ended early; $out has what was done until then" >&2; exit 130' INT TERM

section() {
    echo "== $1"
    echo "$(date +%H:%M) $1" >&2
}

# A command that hangs, as on a card whose driver was reset, does not keep the next one from its turn.
limited() {
    timeout --foreground -k 10 1800 "$@" 2>&1
    code=$?
    [ $code -eq 0 ] || echo "ended with $code: $*"
}

time_cases() {
    for cases in $2; do
        echo "      $cases" >&2
        limited build/release/tests/gpu_time "$device" "$1" "$cases" ${3:+"$3"}
    done
}

run_tests() {
    if [ "$device" != gpu ]; then
        echo "not run: they take the first card, and $device was asked for"
        return
    fi
    for test in build/release/tests/test_opencl_*; do
        [ -x "$test" ] || continue
        echo "      $(basename "$test")" >&2
        timeout --foreground -k 10 1800 "$test" >"$out.log" 2>&1
        echo "$? $(basename "$test") $(tail -1 "$out.log")"
    done
}

{
    section "card"
    "$binary" version
    uname -srm
    "$binary" devices
    command -v clinfo >/dev/null 2>&1 && clinfo 2>/dev/null | grep -E 'Device Name|Driver Version|Device Version|Max compute units|Max clock|Global memory size|Local memory size|Max work group'
    for file in /sys/class/drm/card*/device; do
        [ "$(cat "$file/vendor" 2>/dev/null)" = 0x1002 ] || continue
        echo "$file $(cat "$file/device" "$file/revision" 2>/dev/null | tr '\n' ' ')"
        cat "$file/pp_dpm_sclk" "$file/pp_dpm_mclk" "$file/current_link_speed" "$file/current_link_width" 2>/dev/null
    done
    section "are results right: models"
    for model in tests/models/*/; do
        [ ! -e "$model/model.onnx" ] || limited "$binary" verify --device "$device" "$model" | head -1
    done
    section "times, twice"
    for turn in 1 2; do
        time_cases 2 "products resnet mobilenet bert rows"
    done
    section "times with activations in f16"
    time_cases 2 "resnet mobilenet bert" f16
    section "steps"
    time_cases 2 steps
    section "are results right: every kernel"
    run_tests
    section "what was predicted"
    limited tools/gpu-model
} >"$out"
echo "Written to $out. Please send it with an issue titled \"Polaris figures\"."
