# dom0's side of the network: the stock bridge, our driver-domain process, the card, the outside.

backend_status=/run/xenvelope/backend.json
agent_status=/run/xenvelope/guest.json

# stock_bridge: br0, for vifs with script=vif-bridge.
stock_bridge() {
    ip link show br0 >/dev/null 2>&1 || ip link add name br0 type bridge
    ip link set br0 up
}

# --- our driver-domain process ---------------------------------------------------------------

# backend_config [LINE...]: its configuration. A key of a table comes after the table's line.
backend_config() {
    mkdir -p /etc/xenvelope
    printf '%s\n' "$@" >/etc/xenvelope/backend.toml
    xenvelope-backend --config /etc/xenvelope/backend.toml --check >/dev/null || fail "the backend does not like its configuration"
}

# backend_start: and waits until it serves.
backend_start() {
    cp /lab/etc/vif-xenvelope /etc/xen/scripts/ && chmod +x /etc/xen/scripts/vif-xenvelope
    [ -e /etc/xenvelope/backend.toml ] || backend_config
    rm -f $backend_status
    XENVELOPE_LOG=${XENVELOPE_LOG:-info} xenvelope-backend --config /etc/xenvelope/backend.toml >>/var/log/backend.log 2>&1 &
    backend_pid=$!
    await 20 "test -s $backend_status" || fail "the backend did not start: $(tail -n 3 /var/log/backend.log)"
}

backend_reload() { kill -HUP "$backend_pid" && sleep 2; }
backend_kill() {
    kill -KILL "$backend_pid"
    wait "$backend_pid" 2>/dev/null || :
}
backend_alive() { kill -0 "$backend_pid" 2>/dev/null || fail "the backend is gone: $(tail -n 3 /var/log/backend.log)"; }

# counter [OBJECT/]NAME < STATUS: that number in a status file; 0 if it is not there.
counter() {
    local value
    value=$(sed "s/.*\"${1%/*}\":{//" | grep -o "\"${1#*/}\":[0-9]*" | head -n 1)
    echo "${value##*:}" | grep . || echo 0
}

# The status file is written once a second.
backend_counter() {
    sleep 1.5
    counter "$1" <$backend_status
}

# --- agents -----------------------------------------------------------------------------------

# agent_config NUMBER MAC PCI: the agent's configuration, for guest_create.
agent_config() {
    printf '%s\n' "$agent_extra"
}
agent_extra=

# agent_start NAME...: starts the agents, and waits until their interface carries frames.
agent_start() {
    local name
    for name; do
        in_guest "$name" "export XENVELOPE_LOG=${XENVELOPE_LOG:-info}
xenvelope-guest --config /etc/xenvelope/guest.toml >>/var/log/agent.log 2>&1 </dev/null & echo \$! >/run/agent.pid"
    done
    for name; do
        in_guest "$name" 'i=0; until [ "$(cat /sys/class/net/xenv0/carrier 2>/dev/null)" = 1 ]; do
i=$((i + 1)); [ $i -lt 75 ] || exit 1; kill -0 $(cat /run/agent.pid) || exit 1; sleep 0.2; done' 30 ||
            fail "the agent of $name did not come up: $(in_guest "$name" 'tail -n 3 /var/log/agent.log')"
    done
}

# agent_counter NAME COUNTER: as in the agent's status file; `sent-by/netif-frames` is of an object in it.
agent_counter() {
    in_guest "$1" "sleep 1.5; cat $agent_status" | counter "$2"
}

# agents_up NUMBER...: guests aN with the agent and our backend, with addresses; keys for
# guest_create after the number, as in `agents_up 1 '2 pci=0000:01:10.1'`.
agents_up() {
    local guest number names=
    for guest; do
        number=${guest%% *}
        # shellcheck disable=SC2086
        guest_create "a$number" number=$guest role=agent vif=ours
        names="$names a$number"
    done
    # shellcheck disable=SC2086
    guest_up $names
    # shellcheck disable=SC2086
    agent_start $names
    for guest; do guest_address "a${guest%% *}" xenv0 "${guest%% *}"; done
}

# --- addresses and traffic --------------------------------------------------------------------

# guest_address NAME INTERFACE NUMBER
guest_address() {
    in_guest "$1" "ip link set $2 up
ip addr replace $(guest_ip "$3")/24 dev $2
ip addr replace $(guest_ip6 "$3")/64 dev $2 nodad"
}
guest_ip6() { printf 'fd09::%x' "$1"; }

# serve NAME...: they answer `transfer` and `round_trips`.
serve() {
    local name
    for name; do in_guest_bg "$name" serve 'xenvelope-lab serve --port 7000'; done
    sleep 0.5
}

# ping_ok NAME ADDRESS
ping_ok() { in_guest "$1" "ping -c 3 -W 5 $2" >/run/ping || fail "$1 cannot ping $2: $(tail -n 2 /run/ping)"; }

# transfer FROM ADDRESS BYTES [OPTIONS]: payload is compared by SHA-256. LIMIT in seconds: transfer_limit.
transfer() {
    local from=$1 to
    to=$(socket "$2")
    in_guest "$from" "xenvelope-lab send $to --bytes $3 ${4:-}" "${transfer_limit:-120}" >/run/transfer 2>&1 ||
        fail "transfer from $from to $to ${4:-}: $(tail -n 1 /run/transfer)"
    grep '"ok":true' /run/transfer || fail "transfer from $from to $to ${4:-}: $(tail -n 1 /run/transfer)"
}

# both_ways FROM ADDRESS BYTES
both_ways() {
    transfer "$@"
    transfer "$@" --reverse
}

# transfer_start LABEL FROM ADDRESS BYTES [OPTIONS]: in the background; transfer_end LABEL FROM.
transfer_start() {
    in_guest_bg "$2" "$1" "xenvelope-lab send $(socket "$3") --bytes $4 --stall 60 ${5:-}"
    # Underway, not only begun.
    sleep 3
}
transfer_end() {
    in_guest_wait "$2" "$1" "${transfer_limit:-120}" >/run/transfer 2>&1 ||
        fail "transfer $1 of $2: $(tail -n 1 /run/transfer)"
    grep '"ok":true' /run/transfer || fail "transfer $1 of $2: $(tail -n 1 /run/transfer)"
}
# transfer_runs LABEL FROM: it has not ended yet; a test of what happens in mid transfer is void otherwise.
transfer_runs() {
    in_guest "$2" "! [ -e /run/background/$1.status ]" || fail "transfer $1 of $2 ended too early: $(in_guest "$2" "cat /run/background/$1")"
}

socket() {
    case $1 in
    *:*) printf '[%s]:7000' "$1" ;;
    *) printf '%s:7000' "$1" ;;
    esac
}

# statistic NAME INTERFACE COUNTER
statistic() { in_guest "$1" "cat /sys/class/net/$2/statistics/$3"; }

# --- the outside ------------------------------------------------------------------------------

# outside_up INTERFACE: a network namespace that is reached by a bridge with that interface in it,
# with the address of number 100 and a server; it stands for a machine on the wire.
outside_up() {
    ip link add name br1 type bridge
    ip link set br1 up
    ip link set "$1" master br1
    ip link set "$1" up
    ip netns add outside
    ip link add name to-outside type veth peer name eth0 netns outside
    ip link set to-outside master br1
    ip link set to-outside up
    ip -n outside link set lo up
    ip -n outside link set eth0 up
    ip -n outside addr add "$(guest_ip 100)/24" dev eth0
    ip -n outside addr add "$(guest_ip6 100)/64" dev eth0 nodad
    ip netns exec outside xenvelope-lab serve --port 7000 >/var/log/outside.log 2>&1 &
}

# --- the card ---------------------------------------------------------------------------------

card=0000:01:00.0
pf=eth0

# How many VFs are made. Xen's pciback keeps them, so the number does not change during a boot.
card_vfs=3

# card_up NUMBER: so many VFs are ready to be given to guests. card_vf INDEX: its address on the bus.
card_up() {
    local index=0
    [ -e "/sys/bus/pci/devices/$card" ] || fail "there is no card in this boot"
    # While the PF is down its VFs stay in reset.
    ip link set $pf up
    [ "$(cat /sys/bus/pci/devices/$card/sriov_numvfs)" = $card_vfs ] || echo $card_vfs >/sys/bus/pci/devices/$card/sriov_numvfs
    while [ $index -lt "$1" ]; do
        # Before the guest starts: it may not change it.
        ip link set $pf vf $index mac "$(guest_mac $((index + 1)))"
        [ -e "/sys/bus/pci/drivers/pciback/$(card_vf $index)" ] || xl pci-assignable-add "$(card_vf $index)"
        index=$((index + 1))
    done
}
card_vf() { basename "$(readlink -f "/sys/bus/pci/devices/$card/virtfn$1")"; }

# vf_interface NAME: what the VF is called in the guest.
vf_interface() { in_guest "$1" 'for d in /sys/class/net/*/device/driver; do case $(readlink -f $d) in */igbvf) d=${d#/sys/class/net/}; echo ${d%%/*};; esac; done'; }
