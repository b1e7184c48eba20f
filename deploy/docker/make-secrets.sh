#!/bin/sh
# make-secrets.sh FOLDER: the tokens of docker-compose.yml, where there are none yet. The folder opens for
# its owner alone; the files in it are for everybody, because a container reads them as user 65532.
set -eu
folder=$1
mkdir -p "$folder"
chmod 700 "$folder"
random() { od -An -N 24 -tx1 /dev/urandom | tr -d ' \n'; }

if [ ! -f "$folder/router.ini" ] || [ ! -f "$folder/worker.ini" ]; then
    api=$(random)
    join=$(random)
    cat >"$folder/router.ini" <<END
[router]
api-token = $api
join-token = $join

[gaggle]
token = $api
END
    cat >"$folder/worker.ini" <<END
[worker]
join-token = $join
END
fi
[ -f "$folder/grafana.password" ] || random >"$folder/grafana.password"
chmod 444 "$folder/router.ini" "$folder/worker.ini" "$folder/grafana.password"
