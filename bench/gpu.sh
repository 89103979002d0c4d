#!/bin/sh
# For a machine with a graphics card: what polestar finds, whether the models come out right on it, and how fast it is.
#   bench/gpu.sh [DEVICE]        default gpu; needs `make build`, prints a report
# POLESTAR_MODELS names a folder of models with test data (default ../shared/models, if there). Nothing here passes or fails
# a change.
set -u
cd -- "$(dirname -- "$0")/.."
device=${1:-gpu}
binary=${POLESTAR:-build/release/bin/polestar}
models=${POLESTAR_MODELS:-../shared/models}
echo "== $(date -u +%Y-%m-%dT%H:%M:%SZ) $("$binary" version 2>/dev/null | head -1)"
uname -sr
"$binary" devices
command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.memory --format=csv
echo "== models"
for model in tests/models/*/ "$models"/*/; do
    [ -e "$model/model.onnx" ] || continue
    "$binary" verify --device "$device" "$model" 2>&1 | head -1
done
echo "== first start and second start, largest model there"
for model in "$models"/efficientnet-lite0 tests/models/med-ct-seg-synth; do
    [ -e "$model/model.onnx" ] || continue
    for start in first second; do
        begin=$(date +%s%N)
        "$binary" run --device "$device" "$model" >/dev/null 2>&1
        echo "$start $(( ($(date +%s%N) - begin) / 1000000 )) ms"
    done
    break
done
echo "== times"
for model in "$models"/*/; do
    [ -e "$model/model.onnx" ] || continue
    echo "$model"
    "$binary" bench --device "$device" --seconds 2 "$model" 2>&1 | head -8
done
"$(dirname "$binary")/../tests/gpu_time" "$device"
peer="$(dirname "$binary")/../tests/gpu_clblast"
[ ! -x "$peer" ] || "$peer" "$device"
command -v python3 >/dev/null 2>&1 && python3 -c "import torch" 2>/dev/null && python3 bench/gpu_torch.py
