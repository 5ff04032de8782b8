#!/bin/sh
# The namespace with 90 days of closed histories and our search attributes; repeats are harmless.
set -eu
temporal operator namespace describe --namespace default >/dev/null 2>&1 ||
	temporal operator namespace create --namespace default --retention 2160h
temporal operator namespace update --namespace default --retention 2160h

known=$(temporal operator search-attribute list --namespace default)
for attribute in CustomerId:Keyword Process:Keyword Stage:Keyword Owner:Keyword DueAt:Datetime; do
	name=${attribute%%:*}
	echo "$known" | grep -qw "$name" ||
		temporal operator search-attribute create --namespace default \
			--name "$name" --type "${attribute##*:}"
done
