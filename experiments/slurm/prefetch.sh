#!/bin/bash
# What compute nodes cannot fetch or should not do several times: ImageNet weights, and the region
# maps of a data set. For the login node, or a job on CPUs; the words are those of the run.
#
#   bash experiments/slurm/prefetch.sh preset=experiments/mulquery/cityscapes_resnet50.yaml \
#       data.root=/data/cityscapes
#
# As an array of 16 jobs: SHARD=$((SLURM_ARRAY_TASK_ID + 1))/16 bash experiments/slurm/prefetch.sh ...
set -eu
python -m alseg.regions ${SHARD:+--shard "$SHARD"} "$@"
