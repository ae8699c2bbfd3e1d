#!/usr/bin/env bash
# Evaluate with several processes, one for each GPU, or any number on CPUs:
#     tools/dist_test.sh CONFIG [CHECKPOINT] PROCESSES [arguments of tools/test.py]
# For several machines, run it on each of them with these variables before the command:
#     NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 [PORT=29500]
set -euo pipefail
usage="tools/dist_test.sh CONFIG [CHECKPOINT] PROCESSES [arguments of tools/test.py]"
if [[ $# -ge 2 && $2 =~ ^[0-9]+$ ]]; then  # without a checkpoint: that of the model's authors
  set -- "$1" "" "${@:2}"
elif [ $# -lt 3 ]; then
  echo "error: usage: $usage" >&2
  exit 2
fi
exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" test.py "$3" "$1" ${2:+"$2"} "${@:4}"
