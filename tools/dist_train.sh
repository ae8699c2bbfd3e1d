#!/usr/bin/env bash
# Train with several processes, one for each GPU, or on CPUs:
#     tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# On several machines, on each: NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 [PORT=29500] before it.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "error: usage: tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]" >&2
  exit 2
fi
exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" train.py "$2" "$1" "${@:3}"
