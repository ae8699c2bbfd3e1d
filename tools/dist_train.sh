#!/usr/bin/env bash
# Train with several processes, one for each GPU, or any number on CPUs:
#     tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# For several machines, run it on each of them with these variables before the command:
#     NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 [PORT=29500]
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "error: usage: tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]" >&2
  exit 2
fi
exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" train.py "$2" "$1" "${@:3}"
