#!/bin/sh
# A research group: one server with the studies on the login node, workers wherever the scheduler puts them.
#   pip install "tunewright[slurm]" torch scikit-learn
# KIND is how jobs are submitted: slurm, or local to try it out on one machine.
set -e
cd "$(dirname "$0")"
STORE="${STORE:-$HOME/tw}"
mkdir -p "$STORE"

# On the login node, once. A server that others reach needs a token and a certificate: see docs/guides/security.md.
tunewright serve --storage "$STORE/studies.db" --port "${PORT:-7777}" --logs none &
server=$!
trap 'kill $server' EXIT
export TUNEWRIGHT_SERVER="http://127.0.0.1:${PORT:-7777}"
until tunewright ls > /dev/null 2>&1; do sleep 0.2; done

tunewright create cluster.toml --seeds "${SEEDS:-3}"
tunewright submit resnet "--${KIND:-slurm}" --workers "${WORKERS:-64}" --time "${TIME:-4h}" \
  --gpus "${GPUS:-1}" --folder "$STORE/jobs" --trials "${TRIALS:-500}"
# Or by hand, under any scheduler; it finishes or saves before the limit.
tunewright worker resnet --command-from-study --until "${UNTIL:-3h50m}" --trials "${TRIALS:-500}"
tunewright watch resnet --progress plain --until-done

tunewright pause resnet
tunewright resume resnet --set lr.high=0.3 --gpus none --trials "+${MORE:-20}"
tunewright share resnet --expires 14d
tunewright export resnet -o "$STORE/resnet.html"
