# Sourced by the other scripts: makes .venv and installs the package with the extras given as arguments.
# CODIR_PYTHON names the interpreter (default: the newest of python3.13, 3.12, 3.11, python3 that fits);
# CODIR_EXTRAS adds extras, e.g. CODIR_EXTRAS=cuda on a GPU host or CODIR_EXTRAS=tpu on a TPU VM.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
find_python() {
  local name
  for name in ${CODIR_PYTHON:-python3.13 python3.12 python3.11 python3}; do
    if command -v "$name" >/dev/null && "$name" -c "$fits" 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "error: no Python 3.11 to 3.13 found; install one, or name it: CODIR_PYTHON=/path/to/python bash $0" >&2
  return 1
}

extras="$(echo "$* ${CODIR_EXTRAS:-}" | xargs | tr ' ' ',')"
stamp=".venv/.codir-$(cat pyproject.toml <(echo "$extras") | cksum | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  python="$(find_python)" || exit 1
  if [ ! -x .venv/bin/python ]; then
    echo "making .venv with $("$python" --version)"
    "$python" -m venv .venv
  fi
  echo "installing codir-jax${extras:+[$extras]} into .venv (about a minute)"
  if ! { .venv/bin/python -m pip install --upgrade pip &&
    .venv/bin/python -m pip install --editable ".${extras:+[$extras]}"; } >.venv/install.log 2>&1; then
    tail -n 20 .venv/install.log >&2
    echo "error: the install failed; the whole log is in .venv/install.log" >&2
    exit 1
  fi
  touch "$stamp"
fi
