#!/bin/sh
# Runs once, in an empty PostgreSQL: a role for the product and one for Temporal, no superusers.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" \
	--set product="$PERENNIAL_POSTGRES_PASSWORD" --set temporal="$TEMPORAL_POSTGRES_PASSWORD" <<-'SQL'
	CREATE ROLE perennial LOGIN PASSWORD :'product';
	CREATE DATABASE perennial OWNER perennial ENCODING 'UTF8' TEMPLATE template0;
	CREATE ROLE temporal LOGIN PASSWORD :'temporal';
	CREATE DATABASE temporal OWNER temporal;
	CREATE DATABASE temporal_visibility OWNER temporal;
SQL
