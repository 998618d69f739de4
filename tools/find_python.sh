#!/usr/bin/env bash
# find_python.sh [PYTHON]: prints the interpreter that make takes for a new environment, and says so
# on stderr. PYTHON is a version (3.11), a command or a path; without it the newest that fits is taken.
# Where none fits, uv installs one. An interpreter counts if it runs and can make an environment: a
# shim of pyenv whose version is not selected does not run.
set -euo pipefail

FITS="3.13 3.12 3.11 3.10 3.9" # what requirements.txt has versions for, newest first
REPORT='import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])'

NONE="no Python 3.9 to 3.13 that runs and has the modules venv and ensurepip"

# take INTERPRETER: prints it and ends, if it fits.
take() {
  local version
  version=$("$1" -c "$REPORT" 2> /dev/null) || return 0
  case " $wanted " in
    *" $version "*)
      echo "Python $version: $1" >&2
      echo "$1"
      exit 0
      ;;
  esac
}

asked=${1:-}
wanted=$FITS
if [[ " $FITS " == *" $asked "* ]]; then
  wanted=$asked
elif [[ -n $asked ]]; then
  take "$asked"
  echo "PYTHON=$asked: $NONE (it takes a version, a command or a path)" >&2
  exit 1
fi
for version in $wanted; do
  take "python$version"
  for interpreter in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
    take "$interpreter"
  done
done
take python3
if command -v uv > /dev/null; then
  version=${wanted%% *}
  echo "no Python that fits is installed; uv installs $version" >&2
  uv python install "$version" >&2
  take "$(uv python find "$version")"
fi
echo "PYTHON=$asked: $NONE; install one, or uv, or name it: make PYTHON=/path/to/python" >&2
exit 1
