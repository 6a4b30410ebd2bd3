#!/bin/sh
# Figures on a real Xen host: run in its dom0 by `lab/bench --here`, with bench.sh's variables set.
# bench_from and bench_to are names of running guests, bench_from_host and bench_to_host where ssh
# finds them, as root. By ssh a measurement is begun, and waited for.
set -e
here=$(cd "$(dirname "$0")" && pwd)
. "$here/check.sh"
. "$here/guests.sh"
. "$here/network.sh"
. "$here/bench.sh"

# in_guest NAME COMMAND [LIMIT], as in guests.sh.
in_guest() {
    timeout "${3:-30}" ssh -n -o BatchMode=yes -o ServerAliveInterval=5 "root@$(bench_host_of "$1")" \
        "PATH=\$PATH:/usr/local/bin:/usr/sbin:/sbin; $2"
}
bench_host_of() {
    case $1 in
    "$bench_from") echo "$bench_from_host" ;;
    *) echo "$bench_to_host" ;;
    esac
}

for name in $bench_from $bench_to; do
    xl domid "$name" >/dev/null || fail "there is no guest $name"
    in_guest "$name" true || fail "no ssh to root@$(bench_host_of "$name")"
    # Not over one that runs.
    scp -q "$bench_program_file" "root@$(bench_host_of "$name"):/usr/local/bin/xenvelope-lab.new"
    in_guest "$name" 'mv /usr/local/bin/xenvelope-lab.new /usr/local/bin/xenvelope-lab'
done
[ -r $bench_backend_config ] && grep -q '^default-route-between-guests' $bench_backend_config ||
    fail "$bench_backend_config needs a line default-route-between-guests: it is changed, and put back at the end"

saved=$(mktemp)
cat $bench_backend_config >"$saved"
put_back() {
    cat "$saved" >$bench_backend_config
    kill -HUP "$(cat $bench_lock)" || :
    rm -f "$saved"
}
trap put_back EXIT
trap 'exit 130' INT TERM
bench_run
