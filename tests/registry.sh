#!/bin/bash
# The suite of the registry against a ksqlDB and a Kafka of your own, as the tests run it against the stand-in. It makes
# OpenFactory's streams and tables where they are missing (as `ofop registry init` does), writes assets of its own names
# (OFOP-SUITE-…) and takes them back.
#
#   tests/registry.sh --ksqldb URL --kafka HOST:PORT[,HOST:PORT…]
#
# Credentials of ksqlDB go into the URL. OFOP_TEST_KAFKA_OPTIONS holds options of librdkafka, as `name=value name=value`.
# --suite FILE runs a test program that was built already.
set -euo pipefail

refuse() { echo "$1" >&2; exit 2; }

usage='usage: tests/registry.sh --ksqldb URL --kafka HOST:PORT[,HOST:PORT...] [--suite FILE]'
ksqldb='' kafka='' suite=''
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || refuse "$usage"
    case $1 in
    --ksqldb) ksqldb=${2%/} ;;
    --kafka) kafka=$2 ;;
    --suite) suite=$2 ;;
    *) refuse "$usage" ;;
    esac
    shift 2
done
[ -n "$ksqldb" ] && [ -n "$kafka" ] || refuse "$usage"

curl --silent --show-error --fail --max-time 10 --output /dev/null "$ksqldb/info" ||
    refuse "ksqlDB does not answer at the address given by --ksqldb: is it running, and are the credentials right?"
reached=''
for broker in ${kafka//,/ }; do
    if timeout 5 bash -c "exec 3<> '/dev/tcp/${broker%:*}/${broker##*:}'" 2> /dev/null; then reached=1; fi
done
[ -n "$reached" ] || refuse "Kafka cannot be reached at any of $kafka: is it running, and --kafka right?"

export OFOP_TEST_KSQLDB=$ksqldb OFOP_TEST_KAFKA=$kafka
# One after the other: a server of one's own may be slow.
arguments=(suite:: --ignored --test-threads 1)
if [ -n "$suite" ]; then exec "$suite" "${arguments[@]}"; fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo test --locked --all-features --test registry_server -- "${arguments[@]}"
