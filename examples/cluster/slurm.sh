#!/bin/bash
# A Ray cluster inside one Slurm allocation, and a profile on it:
#
#     sbatch examples/cluster/slurm.sh model.py --budget 30m --ship .
#
# What follows the script's name goes to `autoopt profile`. Slurm copies this file, so the paths are those of the folder
# that sbatch is called in. The environment that is active there has autoopt[ray] and lies on a disk that all nodes see.
# With GPUs add a line like the next ones: #SBATCH --gpus-per-node=4
#SBATCH --job-name=autoopt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --output=autoopt-%j.log
set -euo pipefail

# A door to every node, so it has a lock: without the token nobody else on these machines can use this cluster.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_USAGE_STATS_ENABLED=0

# Ports and a folder of this job's own: its nodes may have other jobs, and their Ray, on them.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))
own=(--num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" --block)

# A step takes its cores by name: since Slurm 22.05 srun does not inherit --cpus-per-task.
step=(srun --overlap --ntasks-per-node=1 "--cpus-per-task=$SLURM_CPUS_PER_TASK")

# --block: the step lives as long as its Ray, and ends with it. `ray stop` would end that of other jobs too.
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"${step[@]}" --nodes=1 --ntasks=1 --nodelist "$head" \
    ray start --head --port "$port" --ray-client-server-port $((port + 10000)) \
    --temp-dir "/tmp/ray-$SLURM_JOB_ID" --include-dashboard false "${own[@]}" > "ray-$SLURM_JOB_ID-head.log" 2>&1 &

until ray health-check --address "$head:$port" > /dev/null 2>&1; do
    jobs -r | grep -q . || { echo "The head did not start: see ray-$SLURM_JOB_ID-head.log" >&2; exit 1; }
    sleep 1
done

others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then
    "${step[@]}" --nodes="$others" --ntasks="$others" --exclude "$head" \
        ray start --address "$head:$port" "${own[@]}" > "ray-$SLURM_JOB_ID-nodes.log" 2>&1 &
fi

# The plan counts the machines that are there when it is made. One that comes late gets trials all the same.
python - "$head:$port" "$SLURM_JOB_NUM_NODES" << 'PYTHON'
import sys, time, ray

address, wanted, end = sys.argv[1], int(sys.argv[2]), time.monotonic() + 120
ray.init(address, logging_level="ERROR")
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted and time.monotonic() < end:
    time.sleep(1)
print(f"{there} of {wanted} nodes are there")
PYTHON

# This script runs on the first node, which is the head.
autoopt profile "$@" --cluster "$head:$port"
