#!/usr/bin/env bash
# `make quickstart`: the whole system on generated images. Resumes if it was interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."
python="$1"
run=runs/quickstart

"$python" -m mgta_tf.train --flagfile=flags/quickstart.flagfile --workdir="$run"
"$python" -m mgta_tf.supervised --flagfile=flags/quickstart_supervised.flagfile \
  --workdir="$run/supervised"

export_to() {
  [ -e "$1/saved_model.pb" ] || "$python" -m mgta_tf.export --output="$1" "${@:2}"
}
export_to "$run/saved_model" --workdir="$run"
export_to "$run/encoders/iae" --workdir="$run" --net=iae
export_to "$run/encoders/random" --workdir="$run" --untrained
export_to "$run/encoders/supervised" --workdir="$run/supervised"

"$python" -m tools.docs.contact_sheet --workdir="$run" --output="$run/reconstructions.png"
[ -e "$run/scenes/VOCdevkit" ] || "$python" tools/make_scenes.py --output="$run/scenes"
encoders="$run/encoders"
"$python" tools/table2.py --voc_root="$run/scenes/VOCdevkit" --output="$run/table2" \
  --models="random=$encoders/random,iae=$encoders/iae,mgta_24=$run/saved_model,supervised=$encoders/supervised"
"$python" -m mgta_tf.report --workdir="$run"

cat <<EOF

Look at
  $run/report.html           the run on one page: losses, reconstructions, clusters, table
  $run/reconstructions.png   images above, what the net makes of them below
  $run/table2/table2.png     the table above, class by class
  $run/summary.json          losses, clusters, agreement, by round
  $run/saved_model/          the encoder, for tf.saved_model.load
  tensorboard --logdir=$run/tensorboard
Next: your own photographs, README.md, "Install and train".
EOF
