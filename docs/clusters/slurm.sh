#!/bin/bash
# A search on the nodes of a Slurm job: sbatch slurm.sh [what follows `nas search`]
# Sent back to the queue near its time limit or by pre-emption, it goes on with its run folder when it starts again.
#SBATCH --job-name=nas
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180
set -euo pipefail

run=${NAS_RUN:-runs/slurm-$SLURM_JOB_ID} # on storage that all nodes see
port=$((6380 + SLURM_JOB_ID % 1000))     # jobs that share a node do not meet
nodes=$SLURM_JOB_NUM_NODES
cpus=${SLURM_CPUS_PER_TASK:-1}
read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')

# Nobody but this job joins its cluster. The token is in a file that only its user reads, and never on a command line.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$PWD/.ray-token-$SLURM_JOB_ID RAY_USAGE_STATS_ENABLED=0
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")

driver='' requeue=no steps=()
stop() { # the driver records what has ended, prints how to go on, and ends
  trap '' USR1 TERM
  [ -z "$driver" ] || kill -TERM "$driver" 2>/dev/null || true
}
finish() {
  [ ${#steps[@]} -eq 0 ] || kill -TERM "${steps[@]}" 2>/dev/null || true
  wait || true
  rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap finish EXIT
trap 'requeue=yes; stop' USR1 # the time limit is near
trap stop TERM                # pre-emption: Slurm sends the job back itself; or scancel

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  ray start --head --block --node-ip-address="$address" --port="$port" --num-cpus="$cpus" &
steps+=($!)
for _ in $(seq 120); do
  (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null && break
  sleep 1
done
if [ "$nodes" -gt 1 ]; then
  srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$head" \
    ray start --block --address="$address:$port" --num-cpus="$cpus" &
  steps+=($!)
fi

if [ -f "$run/manifest.json" ]; then
  place=("run.resume=$run")
else
  place=("run.folder=$(dirname "$run")" "run.name=$(basename "$run")")
fi
nas search "${place[@]}" "runner.address=$address:$port" 'runner.wait_for_nodes="5 min"' display=plain "$@" &
driver=$!

status=0
wait "$driver" || status=$?
if kill -0 "$driver" 2>/dev/null; then # a signal ended the waiting, not the driver
  status=0
  wait "$driver" || status=$?
fi
if [ "$requeue" = yes ] && [ "$status" -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
