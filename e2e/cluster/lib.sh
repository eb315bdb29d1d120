# shellcheck shell=bash disable=SC2034
# Names, addresses and directories of one cluster. Sourced by the scripts of this directory.
# The one choice is E2E_ID; a cluster that is neither the demo's nor the tests' also needs E2E_NET.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
die() { echo "${0##*/}: $*" >&2; exit 1; }

CACHE=${KUBEDR_CACHE:-$HOME/.cache/kubedr}
STATE_ROOT=${KUBEDR_STATE:-$HOME/.local/state/kubedr}
ID=${E2E_ID:-kubedr-demo}
case $ID in
  kubedr-demo) NET=${E2E_NET:-${KUBEDR_DEMO_NET:-10.123.0}};;
  kubedr-test) NET=${E2E_NET:-${KUBEDR_TEST_NET:-10.124.0}};;
  *) NET=${E2E_NET:-};;
esac
[[ $ID =~ ^[a-z][a-z0-9-]{0,10}[a-z0-9]$ ]] || die "E2E_ID=\"$ID\": at most 12 lower-case letters, digits and dashes are expected (a network device is named after it)"
[[ $NET =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "E2E_ID=$ID needs E2E_NET, three numbers such as 10.125.0; the cluster takes the whole /16"

# All of a cluster's addresses lie in one /16, so that two clusters never share a route.
HOST_IP=$NET.1 NODE_IP=$NET.2              # the veth pair between this machine and the node
S3_IP=${NET%.*}.1.1                        # on this machine's lo: reachable from it, from pods and from the node alike
SVC_CIDR=${NET%.*}.64.0/18 SVC_IP=${NET%.*}.64.1
POD_CIDR=${NET%.*}.128.0/17 NODE_POD_CIDR=${NET%.*}.128.0/24

NODE=$ID-control-plane
STATE=${E2E_STATE:-$STATE_ROOT/$ID/node}   # gone after `down`
S3_STATE=$STATE_ROOT/$ID/s3                # gone after `s3 down`
S3_URL=http://$S3_IP:9000
BUCKET=$ID
VETH=ve-$ID
CGROUP=/$ID
PIDFILE=$STATE/node.pid
PAUSE_IMAGE=localhost/kubedr/pause:1
CTR_SOCKET=$STATE/run/containerd/containerd.sock

for d in "$STATE" "$CACHE"; do
  case $d/ in /etc/*|/var/*|/run/*) die "$d must not lie under /etc, /var or /run, of which the node has its own: set KUBEDR_STATE and KUBEDR_CACHE";; esac
done

# s3_server: what the S3 server is, or will be when it is made: versitygw or minio; s3_program: its path
s3_server() {
  if [ -e "$S3_STATE/credentials" ]; then cat "$S3_STATE/server" 2>/dev/null || echo versitygw; else echo "${E2E_S3:-versitygw}"; fi
}
s3_program() {
  case $(s3_server) in
    versitygw) echo "$("$here/build" bin-dir)/versitygw";;
    minio) echo "$("$here/build" minio-dir)/minio";;
    *) die "E2E_S3=\"$E2E_S3\": versitygw or minio is expected";;
  esac
}

# bin: the directory of the programs that the running cluster was started with, else of this checkout's
bin() { cat "$STATE/bin" 2>/dev/null || "$here/build" bin-dir; }

start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
# A pid file holds "<pid> <its start time>": a pid alone may by now be another program's.
write_pid() { echo "$2 $(start_time "$2")" > "$1"; }
pid_in() {
  local pid t
  [ -f "$1" ] && read -r pid t < "$1" || return 1
  [ -n "${t-}" ] && [ "$(start_time "$pid")" = "$t" ] && ! ended "$pid" && echo "$pid"
}
ended() { case $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1) in ''|Z) true;; *) false;; esac; }
node_pid() { pid_in "$PIDFILE"; }
in_node() { nsenter -t "$(node_pid)" -m -n -p -u -i -- "$@"; }

# await SECONDS WHAT LOG CMD...: until CMD succeeds; else ends the script with the end of LOG.
# E2E_PATIENCE=10 waits ten times as long, for a machine that is ten times slower than most.
await() {
  local within=$(($1 * ${E2E_PATIENCE:-1})) what=$2 log=$3 end; shift 3
  end=$((SECONDS + within))
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "${0##*/}: $what: not within $within s. The end of $log:" >&2
      tail -n 25 "$log" >&2 || :
      exit 1
    fi
    sleep 0.1
  done
}

# lock: one command at a time works on a cluster. What a script leaves running must close descriptor 9.
lock() {
  [ "${KUBEDR_LOCKED-}" != "$ID" ] || return 0
  mkdir -p "$STATE_ROOT"; exec 9> "$STATE_ROOT/$ID.lock"
  flock -n 9 || {
    echo "${0##*/}: another command is working on the cluster $ID; waiting for it" >&2
    flock -w 3600 9 || die "the cluster $ID was not free within an hour"
  }
  export KUBEDR_LOCKED=$ID
}
