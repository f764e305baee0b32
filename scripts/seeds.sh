#!/usr/bin/env bash
# The quickstart's settings over seeds, objectives and ways to train; a table of accuracies at the end. Runs that are
# finished are kept, and one that was stopped goes on, so this can be interrupted and started again.
#
#   scripts/seeds.sh runs/seeds                          3 seeds x (standard, vgs) x (lora, full): half an hour on 2 cores
#   SEEDS="0 1 2 3 4" TRAIN="lora" scripts/seeds.sh runs/seeds --set train.steps=80
set -euo pipefail

folder=${1:?give a folder for the runs}
shift
for seed in ${SEEDS:-0 1 2}; do
  for train in ${TRAIN:-lora full}; do
    # adapters start from nothing and need larger steps than full weights
    case $train in full) rate=3e-4 ;; *) rate=1e-3 ;; esac
    for objective in ${OBJECTIVES:-standard vgs}; do
      run=$folder/$train-$objective-$seed
      if [ -e "$run/recipe.yaml" ]; then
        vgs-mlx distill --resume --output "$run"
      else
        vgs-mlx distill --output "$run" --set seed="$seed" --set student.train="$train" \
          --set train.learning_rate="$rate" --set objective.name="$objective" "$@"
      fi
    done
  done
done
python "$(dirname "${BASH_SOURCE[0]}")/summarise.py" "$folder"/*
