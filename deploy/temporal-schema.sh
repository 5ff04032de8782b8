#!/bin/sh
# Brings Temporal's two databases to the schema of this server; a repeat changes nothing.
set -eu
for part in temporal visibility; do
	database=temporal
	[ "$part" = visibility ] && database=temporal_visibility
	sql() {
		temporal-sql-tool --plugin postgres12 --ep postgres --port 5432 \
			--user temporal --db "$database" "$@"
	}
	sql update-schema -d "/etc/temporal/schema/postgresql/v12/$part/versioned" || {
		sql setup-schema -v 0.0
		sql update-schema -d "/etc/temporal/schema/postgresql/v12/$part/versioned"
	}
done
