#!/bin/bash
# One sweep over the nodes of one job, on Ray. Submit from the folder with the sweep:
#
#     sbatch slurm_symmetric.sh digits.yaml runs
#
# Every node needs the same environment with idim-toolkit[ray] (Ray 2.52 or newer), and a file system that all share.
# `ray symmetric-run` starts Ray on every node and the sweep on the first; when the sweep ends, so does Ray.
# It expects nodes of its own: two such jobs on one node get into each other's way.
#
#SBATCH --job-name=idim-sweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
#SBATCH --time=12:00:00
# The job was cut off by time or by a node: submit it again, and it goes on from there.

set -euo pipefail
sweep=${1:?usage: sbatch slurm_symmetric.sh SPEC.yaml STORE}
store=${2:?usage: sbatch slurm_symmetric.sh SPEC.yaml STORE}

# source env/bin/activate            # or: module load …, conda activate …

export OMP_NUM_THREADS=1             # a run computes on one thread
export RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_MODE=token           # srun hands both to every node; nobody else can join or read
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$head:$((20000 + SLURM_JOB_ID % 10000))

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_PER_TASK" -- \
    idim sweep "$sweep" --engine ray --address auto --store "$store"
