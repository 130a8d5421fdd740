#!/usr/bin/env bash
# Exit code 0 if a version of MODEL is AVAILABLE, by GetModelStatus over REST. Needs bash and cat only: the stock image
# has no curl and no Python.
#
#   available.sh REST_PORT MODEL
#
# Neither gRPC health (static: SERVING as soon as the port is open) nor the HTTP status of /v1/models/MODEL tells:
# that is 200 as well while a version is LOADING, or when it failed and is at its END.
set -euo pipefail
[[ $# == 2 ]] || { echo "usage: available.sh REST_PORT MODEL" >&2; exit 2; }
exec 3<>"/dev/tcp/127.0.0.1/$1"
# HTTP/1.0: the server closes, so that reading ends.
printf 'GET /v1/models/%s HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
answer=$(cat <&3)
[[ $answer =~ ^HTTP/1\.[01]\ 200 && $answer =~ \"state\":\ *\"AVAILABLE\" ]]
