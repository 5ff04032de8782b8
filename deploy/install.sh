#!/bin/sh
# Makes the virtual environment $2 with the Python $1 and installs what requirements.lock pins.
set -eu
python=$1 venv=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	echo "Python 3.11 or newer is needed, and $python is not: make PYTHON=/path/to/python3.12 ..." >&2
	exit 1
}
"$python" -m venv "$venv" || {
	echo "$python cannot make environments: install its venv (Debian, Ubuntu: python3-venv)" >&2
	exit 1
}
echo "installing the pinned packages into $venv (once)"
pip="$venv/bin/python -m pip install --quiet --require-hashes --no-deps"

# uv takes a fifth of pip's time. It is pinned by the same file, and where it can't reach a
# registry that pip can, pip does all of it.
awk '/^[^ #]/ { ours = /^uv==/ } ours' requirements.lock >"$venv/uv.txt"
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
[ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"
$pip -r "$venv/uv.txt" &&
	"$venv/bin/python" -m uv pip install --quiet --python "$venv/bin/python" --require-hashes \
		--no-deps -r requirements.lock ||
	$pip -r requirements.lock

# Compiles what a start imports, so that the first one is as quick as the others.
"$venv/bin/python" -c 'import alembic.command, api.app, crm, worker' >/dev/null 2>&1 || true
