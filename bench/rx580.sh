#!/bin/sh
# For an owner of a Polaris card (RX 460 to RX 590): figures that docs/gpu.md only predicts, into one file to send back.
#   bench/rx580.sh [DEVICE]      default gpu; needs `make build` and an OpenCL driver (docs/install-polaris.md); ten minutes
# The file says nothing about you: card, driver, kernel and times. Read it before you send it.
set -u
cd -- "$(dirname -- "$0")/.."
device=${1:-gpu}
binary=${POLESTAR:-build/release/bin/polestar}
out=polestar-$(date -u +%Y%m%d-%H%M%S).txt
[ -x "$binary" ] && [ -x build/release/tests/gpu_time ] || { echo "rx580: build first: make build" >&2; exit 1; }
{
    echo "== card"
    "$binary" version
    uname -srm
    "$binary" devices
    command -v clinfo >/dev/null 2>&1 && clinfo 2>/dev/null | grep -E 'Device Name|Driver Version|Device Version|Max compute units|Max clock|Global memory size|Local memory size|Max work group'
    for file in /sys/class/drm/card*/device; do
        [ "$(cat "$file/vendor" 2>/dev/null)" = 0x1002 ] || continue
        echo "$file $(cat "$file/device" "$file/revision" 2>/dev/null | tr '\n' ' ')"
        cat "$file/pp_dpm_sclk" "$file/pp_dpm_mclk" "$file/current_link_speed" "$file/current_link_width" 2>/dev/null
    done
    echo "== are results right"
    for test in build/release/tests/test_opencl_*; do
        [ -x "$test" ] && { "$test" >"$out.log" 2>&1; echo "$? $(basename "$test") $(tail -1 "$out.log")"; }
    done
    for model in tests/models/*/; do
        [ -e "$model/model.onnx" ] && "$binary" verify --device "$device" "$model" 2>&1 | head -1
    done
    echo "== times, twice"
    for turn in 1 2; do
        for cases in products resnet mobilenet bert rows; do
            build/release/tests/gpu_time "$device" 2 "$cases" 2>&1
        done
    done
    echo "== times with activations in f16"
    for cases in resnet mobilenet bert; do
        build/release/tests/gpu_time "$device" 2 "$cases" f16 2>&1
    done
    echo "== steps"
    build/release/tests/gpu_time "$device" 2 steps 2>&1
    echo "== what was predicted"
    tools/gpu-model 2>&1
} >"$out"
rm -f "$out.log"
echo "Written to $out. Please send it with an issue titled \"Polaris figures\"."
