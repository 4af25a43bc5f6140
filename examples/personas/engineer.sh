#!/bin/sh
# A deep-learning engineer with a PyTorch script that stays as it is, on one machine.
#   pip install tunewright torch scikit-learn
# GPUS is how many GPUs to use: all, a number, a list, or none to train on the processor.
set -e
cd "$(dirname "$0")"

tunewright run --name resnet --maximize val_acc --gpus "${GPUS:-all}" --budget "${BUDGET:-8h}" --stop asha -- \
  python train.py --lr '{lr:log 1e-5..1e-1}' --width '{width:int log 16..512}' \
                  --opt '{opt:adam|sgd|rmsprop}' --epochs 9
tunewright best resnet --as command
tunewright resume resnet --budget "${MORE:-+4h}"

# The same as a file, written from the script's options.
tunewright init train.py -o sweep.toml --force
tunewright run sweep.toml --gpus none --budget "${FILE_BUDGET:-20 trials}"
tunewright export resnet -o resnet.html
echo "next: tunewright dashboard"
