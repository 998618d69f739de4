#!/usr/bin/env bash
# `make quickstart`: the whole system on generated images. Resumes if it was interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."
python="$1"
run=runs/quickstart

"$python" -m mgta_tf.train --flagfile=flags/quickstart.flagfile --workdir="$run"
[ -e "$run/saved_model/saved_model.pb" ] ||
  "$python" -m mgta_tf.export --workdir="$run" --output="$run/saved_model"
"$python" tools/contact_sheet.py --workdir="$run" --output="$run/reconstructions.png"

cat <<EOF

Look at
  $run/reconstructions.png   images above, what the net makes of them below
  $run/summary.json          losses, clusters, agreement, by round
  $run/saved_model/          the encoder, for tf.saved_model.load
  tensorboard --logdir=$run/tensorboard
Next: your own photographs, README.md, "Your own images".
EOF
