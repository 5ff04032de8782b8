#!/bin/sh
# Whether the compose file holds together, where a client is there to ask; names stand for secrets.
set -eu
cd "$(dirname "$0")/.."
if ! docker compose version >/dev/null 2>&1; then
	echo 'docker compose is not installed: docker-compose.yml is not checked'
	exit 0
fi
sed -n 's/^\([A-Z_]*\)=.*/\1=not-a-secret/p' deploy/env.example >"${TMPDIR:-/tmp}/compose-env.$$"
trap 'rm -f "${TMPDIR:-/tmp}/compose-env.$$"' EXIT
docker compose --env-file "${TMPDIR:-/tmp}/compose-env.$$" config --quiet
echo 'docker-compose.yml is valid'
