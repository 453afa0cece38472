#!/bin/bash
# One sweep as an array of jobs, each with a part of the runs and a store of its own. No Ray, no shared memory of what
# is done: a part that was cut off is submitted again by its number, `sbatch --array=3 slurm_array.sh …`.
#
#     sbatch slurm_array.sh digits.yaml parts
#     idim sweep digits.yaml --store runs $(printf -- '--reuse %s ' parts/*)     # when all have ended: gathers
#
#SBATCH --job-name=idim-part
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00

set -euo pipefail
sweep=${1:?usage: sbatch slurm_array.sh SPEC.yaml FOLDER}
folder=${2:?usage: sbatch slurm_array.sh SPEC.yaml FOLDER}
parts=8                              # the same as above; not SLURM_ARRAY_TASK_COUNT, which a repeated part changes

# source env/bin/activate            # or: module load …, conda activate …

mkdir -p "$folder"
srun idim sweep "$sweep" --shard "$SLURM_ARRAY_TASK_ID/$parts" --workers "$SLURM_CPUS_PER_TASK" \
    --store "$folder/$SLURM_ARRAY_TASK_ID" --quiet
