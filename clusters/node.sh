#!/usr/bin/env bash
# What a node of a cluster does beside Ray; cluster.yaml and the files beside this one call it. Each command may be repeated.
#
#   node.sh install       (every node)  .venv from this checkout with constraints.txt; the login shell's variables
#   node.sh mps           (with a card) NVIDIA's service, if L2T_MPS=on
#   node.sh notice        (spot nodes)  a watcher that tells Ray when the cloud is about to take this machine
#   node.sh mount DEVICE  (head)        the kept volume at $L2T_KEPT; makes its file system the first time
#   node.sh ledger        (head)        MLflow on loopback over the kept folder; returns when it answers
#   node.sh ledger-stop   (head)        ends MLflow, and the PostgreSQL that `ledger` started
#   node.sh autoscaler    (head)        before Ray on machines of your own: what Ray's autoscaler has to know of them
#   node.sh down          (head)        before `ray down` of machines that stay: ends Ray on the others, and the ledger
#
# Settings, from ~/l2t.env, which the cluster file's first section writes:
#   L2T_LEDGER     sqlite (default), postgres, or none where MLFLOW_TRACKING_URI names a server of yours
#   L2T_KEPT       folder of the ledger, on a volume that outlives the head (default ~/l2t-kept)
#   L2T_ARTIFACTS  s3://..., gs://... or a folder (default $L2T_KEPT/artifacts)
#   L2T_HOST       where MLflow listens (default 127.0.0.1); anything else needs MLFLOW_AUTH_ADMIN_PASSWORD
#   L2T_PORT       its port (default 5000)
#   L2T_MPS        on, or off (default)
#   L2T_VENV       an environment that is there already, instead of .venv
set -euo pipefail

home=$(cd "$(dirname "$0")/.." && pwd)
if [ -f ~/l2t.env ]; then
  set -a
  # shellcheck disable=SC1090  # written by the cluster file
  . ~/l2t.env
  set +a
fi
: "${L2T_LEDGER:=sqlite}" "${L2T_KEPT:=$HOME/l2t-kept}" "${L2T_HOST:=127.0.0.1}" "${L2T_PORT:=5000}" "${L2T_MPS:=off}"
: "${L2T_ARTIFACTS:=$L2T_KEPT/artifacts}"
venv=${L2T_VENV:-$home/.venv}
pipe=/tmp/l2t-mps-$(id -u) # as short as the name of a socket must be

die() {
  echo "node.sh: $*" >&2
  exit 2
}

root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install() {
  if [ -n "${L2T_VENV:-}" ]; then
    [ -x "$venv/bin/python" ] || die "L2T_VENV must hold an environment, got $venv without bin/python"
  else
    local wanted
    wanted=$(cat "$home/pyproject.toml" "$home/constraints.txt" | sha256sum)
    if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$wanted" ]; then
      python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "python3 must be >= 3.11, got $(python3 -V)"
      python3 -m venv "$venv"
      "$venv/bin/python" -m pip install --quiet --upgrade pip
      "$venv/bin/python" -m pip install --quiet --constraint "$home/constraints.txt" --editable "${home}[cluster]"
      echo "$wanted" >"$venv/.installed"
    fi
  fi
  {
    echo '# written by clusters/node.sh install'
    echo 'export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true'
    printf "export PATH=%q:\$PATH\n" "$venv/bin"
    [ -z "${L2T_VENV:-}" ] || printf 'export PYTHONPATH=%q\n' "$home"
    if [ "$L2T_LEDGER" != none ]; then
      echo "export MLFLOW_TRACKING_URI=http://127.0.0.1:$L2T_PORT"
    elif [ -n "${MLFLOW_TRACKING_URI:-}" ]; then
      printf 'export MLFLOW_TRACKING_URI=%q\n' "$MLFLOW_TRACKING_URI"
    fi
    [ "$L2T_MPS" != on ] || echo "export CUDA_MPS_PIPE_DIRECTORY=$pipe/pipe CUDA_MPS_LOG_DIRECTORY=$pipe/log"
  } >~/.l2t_shell
  chmod 600 ~/.l2t_shell
  touch ~/.bashrc
  grep -qs l2t_shell ~/.bashrc || sed -i '1i [ ! -f ~/.l2t_shell ] || . ~/.l2t_shell' ~/.bashrc
  grep -qs l2t_shell ~/.bashrc || echo '[ ! -f ~/.l2t_shell ] || . ~/.l2t_shell' >>~/.bashrc # it was empty
}

mps() {
  [ "$L2T_MPS" = on ] || return 0
  command -v nvidia-cuda-mps-control >/dev/null || die "L2T_MPS must be off where there is no nvidia-cuda-mps-control"
  mkdir -p "$pipe/pipe" "$pipe/log"
  chmod 700 "$pipe"
  export CUDA_MPS_PIPE_DIRECTORY=$pipe/pipe CUDA_MPS_LOG_DIRECTORY=$pipe/log
  timeout 60 nvidia-cuda-mps-control <<<get_server_list >/dev/null 2>&1 || nvidia-cuda-mps-control -d
}

# start NAME COMMAND...: in the background, once; its process group is in $L2T_KEPT/NAME.pid or ~/NAME.pid
start() {
  local name=$1 folder=$2
  shift 2
  ! alive "$folder/$name.pid" "$name" || return 0
  setsid nohup "$@" >>"$folder/$name.log" 2>&1 </dev/null &
  echo $! >"$folder/$name.pid"
}

alive() { # pid file, word of the command line: a number may have gone to another process
  [ -f "$1" ] && grep -qsa "$2" "/proc/$(cat "$1")/cmdline"
}

attach() {
  local device=${1:-}
  [ -b "$device" ] || die "mount must be given a block device, got '$device'"
  root mkdir -p "$L2T_KEPT"
  mountpoint -q "$L2T_KEPT" && return 0
  [ -n "$(root blkid -o value -s TYPE "$device")" ] || root mkfs.ext4 -q "$device" # never over a file system
  root mount "$device" "$L2T_KEPT"
  root chown "$(id -u):$(id -g)" "$L2T_KEPT"
}

notice() {
  start notice "$HOME" "$venv/bin/python" "$home/clusters/notice.py"
}

ledger() {
  [ "$L2T_LEDGER" != none ] || return 0
  local store options=()
  mkdir -p "$L2T_KEPT" || die "L2T_KEPT must be a folder that can be written, got $L2T_KEPT"
  chmod 711 "$L2T_KEPT" # PostgreSQL's user has to pass
  case $L2T_LEDGER in
    sqlite) store=sqlite:///$L2T_KEPT/mlflow.db ;;
    postgres)
      postgres
      store="postgresql://$(owner)@/mlflow?host=$L2T_KEPT/postgres/socket"
      ;;
    *) die "L2T_LEDGER must be sqlite, postgres or none, got $L2T_LEDGER" ;;
  esac
  if [ -n "${MLFLOW_AUTH_ADMIN_PASSWORD:-}" ]; then
    options=(--app-name basic-auth)
    printf '[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///%s/users.db\nadmin_username = admin\n' "$L2T_KEPT" \
      >"$L2T_KEPT/users.ini"
    export MLFLOW_AUTH_CONFIG_PATH=$L2T_KEPT/users.ini
    export MLFLOW_FLASK_SERVER_SECRET_KEY
    MLFLOW_FLASK_SERVER_SECRET_KEY=$(head -c 32 /dev/urandom | base64)
  elif [ "$L2T_HOST" != 127.0.0.1 ]; then
    die "L2T_HOST must be 127.0.0.1 unless MLFLOW_AUTH_ADMIN_PASSWORD is set, got $L2T_HOST; use a tunnel"
  fi
  (
    umask 077
    # MLflow's own environment must not send it to itself
    start mlflow "$L2T_KEPT" env -u MLFLOW_TRACKING_URI MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
      "$venv/bin/python" -m mlflow server \
      --host "$L2T_HOST" --port "$L2T_PORT" --workers 2 --backend-store-uri "$store" \
      --artifacts-destination "$L2T_ARTIFACTS" "${options[@]}"
  )
  for _ in $(seq 240); do
    if "$venv/bin/python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$L2T_PORT/health', timeout=2)" 2>/dev/null; then
      return 0
    fi
    alive "$L2T_KEPT/mlflow.pid" mlflow || break
    sleep 0.5
  done
  tail -n 20 "$L2T_KEPT/mlflow.log" >&2
  die "MLflow must answer at port $L2T_PORT; see $L2T_KEPT/mlflow.log"
}

owner() { # PostgreSQL refuses to run as root
  if [ "$(id -u)" = 0 ]; then echo postgres; else id -un; fi
}

programs() { # of the newest PostgreSQL
  find /usr/lib/postgresql -path '*/bin/postgres' -printf '%h\n' 2>/dev/null | sort -V | tail -n 1
}

postgres() { # of ours: no port, a socket in a folder that nobody else may enter
  local folder=$L2T_KEPT/postgres bin as=()
  [ -n "$(programs)" ] || root apt-get install -y -qq postgresql
  bin=$(programs)
  if [ "$(id -u)" = 0 ]; then as=(runuser -u postgres --); fi
  if [ ! -f "$folder/cluster/PG_VERSION" ]; then
    mkdir -p "$folder/socket"
    [ "$(id -u)" != 0 ] || chown -R postgres: "$folder"
    chmod 700 "$folder"
    "${as[@]}" "$bin/initdb" -D "$folder/cluster" -U "$(owner)" -A trust -E UTF8 >/dev/null
  fi
  "${as[@]}" "$bin/pg_ctl" -D "$folder/cluster" status >/dev/null || # a head that was lost left its pid file: pg_ctl knows
    "${as[@]}" "$bin/pg_ctl" -D "$folder/cluster" -l "$folder/postgres.log" -w \
      -o "-k $folder/socket -c listen_addresses=''" start >/dev/null
  "${as[@]}" "$bin/psql" -h "$folder/socket" -d postgres -tAc "SELECT 1 FROM pg_database WHERE datname = 'mlflow'" |
    grep -q 1 || "${as[@]}" "$bin/createdb" -h "$folder/socket" mlflow
}

ledger-stop() {
  if alive "$L2T_KEPT/mlflow.pid" mlflow; then
    local sign
    for sign in TERM KILL; do # one that has not ended would keep the port, and be taken for the next
      kill "-$sign" -- "-$(cat "$L2T_KEPT/mlflow.pid")" || true
      for _ in $(seq 240); do
        alive "$L2T_KEPT/mlflow.pid" mlflow || break 2
        sleep 0.25
      done
    done
  fi
  rm -f "$L2T_KEPT/mlflow.pid"
  if [ -f "$L2T_KEPT/postgres/cluster/postmaster.pid" ]; then
    local as=()
    if [ "$(id -u)" = 0 ]; then as=(runuser -u postgres --); fi
    "${as[@]}" "$(programs)/pg_ctl" -D "$L2T_KEPT/postgres/cluster" -m fast stop >/dev/null
  fi
}

autoscaler() {
  "$venv/bin/python" - <<'END'
import json, logging, pathlib
path = pathlib.Path("~/ray_bootstrap_config.yaml").expanduser()
told = json.loads(path.read_text())
if told["provider"]["type"] == "local":
    # Ray's second autoscaler counts the head among the machines of its kind, and would start one too few
    number = len(told["provider"]["worker_ips"]) + 1
    told["available_node_types"][told["head_node_type"]].update(min_workers=number, max_workers=number)
    told["max_workers"] = number
    path.write_text(json.dumps(told))
    # and holds a head that its provider does not know for gone, after which it never starts a machine again
    from ray.autoscaler._private.local import node_provider
    logging.disable()
    node_provider.record_local_head_state_if_needed(
        node_provider.LocalNodeProvider(told["provider"], told["cluster_name"])
    )
END
}

down() { # `ray down` ends Ray on the head alone where the provider has no machines to end
  "$venv/bin/python" - <<'END' | while read -r target; do
import json, pathlib
told = json.loads(pathlib.Path("~/ray_bootstrap_config.yaml").expanduser().read_text())
for address in told["provider"].get("worker_ips", []):
    print(f"{told['auth']['ssh_user']}@{address}")
END
    # a login shell need not read ~/.bashrc
    ssh -n -i ~/ray_bootstrap_key.pem -o LogLevel=ERROR -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new \
      -o ConnectTimeout=30 -o ConnectionAttempts=3 "$target" '. ~/.l2t_shell && ray stop' ||
      echo "node.sh: Ray was not ended on $target (see above)" >&2
  done
  ledger-stop
}

case ${1:-} in
  mount) attach "${2:-}" ;;
  install | mps | notice | autoscaler | ledger | ledger-stop | down) "$1" ;;
  *) die "the command must be one of install, mps, mount, notice, autoscaler, ledger, ledger-stop, down, got '${1:-}'" ;;
esac
