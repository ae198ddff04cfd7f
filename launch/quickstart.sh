#!/usr/bin/env bash
# The main job on the embedded task: a teacher, four students of half its depth, one table, an export.
# Under 10 minutes and 4 GiB on 2 CPU cores, offline after the install. Run again, it goes on or says that it is done.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

.venv/bin/codir compress --demo --compare=finetune,distill,codir --output=runs/quickstart "$@"

cat <<'TEXT'

Next, the same on GLUE with roberta-base (downloads model and data; use a GPU or TPU: CODIR_EXTRAS=cuda or tpu):
  .venv/bin/codir compress --teacher=roberta-base --task=sst2 --layers=6 --output=runs/sst2
and on your own texts, a header line and the columns sentence and label:
  .venv/bin/codir compress --teacher=roberta-base --train=train.tsv --dev=dev.tsv --layers=6 --output=runs/mine
TEXT
