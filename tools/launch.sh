#!/usr/bin/env bash
# What dist_train.sh and dist_test.sh share: TOOL PROCESSES ARGUMENTS, by torchrun.
set -euo pipefail
if ! [[ $2 =~ ^[1-9][0-9]*$ ]]; then
  echo "error: the number of processes on this machine is 1 or more, got '$2'" >&2
  exit 2
fi
exec "${PYTHON:-python}" -m torch.distributed.run --nnodes "${NNODES:-1}" \
  --node-rank "${NODE_RANK:-0}" --master-addr "${MASTER_ADDR:-127.0.0.1}" \
  --master-port "${PORT:-29500}" --nproc-per-node "$2" \
  "$(dirname "$0")/$1" "${@:3}" --launcher pytorch
