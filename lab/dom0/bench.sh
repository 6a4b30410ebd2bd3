# Figures: Linux' netfront, netback and bridge against our paths, between the same two guests,
# alternating. The job of lab/bench sources this in the lab's dom0, bench-here.sh on a real host.
#
# Set before: bench_rounds, bench_bytes, bench_paths (words), bench_results (a file),
# bench_from and bench_to: two guests that have a stock interface as vif 0, and ours. The host's
# side: bench_emulated (true or false), bench_host and bench_qemu: what it runs on.
#
# Who looks is not to disturb what is measured: a transfer is begun in the guest with a
# delay, in which the processor time so far is read, and is waited for by one sleeping process.

bench_folder=/run/xenvelope-bench
bench_backend_config=/etc/xenvelope/backend.toml
bench_lock=/run/xenvelope-backend.lock
bench_idle_seconds=10

# --- the lab's two guests --------------------------------------------------------------------

# bench_guests: g1 and g2, a processor each, with both interfaces and a VF.
bench_guests() {
    local number guests=
    stock_bridge
    card_up 2
    # What is in no table, ARP among it, goes by dom0 on all of our paths.
    backend_config 'default-route-between-guests = "switch"' '[card]' "pf = \"$pf\"" \
        '[[guest]]' "mac = \"$(guest_mac 1)\"" 'vf = 0' 'default-route = "driver-domain"' \
        '[[guest]]' "mac = \"$(guest_mac 2)\"" 'vf = 1' 'default-route = "driver-domain"'
    backend_start
    agent_extra='vif = 1'
    for number in 1 2; do
        guest_create g$number number=$number role=both vif=both pci="$(card_vf $((number - 1)))"
        guests="$guests g$number"
    done
    # shellcheck disable=SC2086
    guest_up $guests
    # shellcheck disable=SC2086
    agent_start $guests
    for number in 1 2; do
        guest_address g$number xenv0 $number
        in_guest g$number "xenvelope-lab await-file /sys/bus/xen/devices/vif-0/net --limit 15 && cd /sys/bus/xen/devices/vif-0/net/* && stock=\${PWD##*/} &&
ip link set \$stock up && ip addr replace 10.8.0.$number/24 dev \$stock" ||
            fail "g$number: netfront has no vif 0: $(in_guest g$number 'ls -l /sys/bus/xen/devices/*/driver; dmesg | tail -n 5')"
    done
}

# --- all of it -------------------------------------------------------------------------------

# bench_run: every path in every round. Status 1 if a measurement came to nothing.
bench_run() {
    local number first name
    bench_failed=0
    : >"$bench_results"
    rm -rf $bench_folder && mkdir -p $bench_folder
    bench_find
    bench_setting >>"$bench_results"
    for name in $bench_from $bench_to; do in_guest "$name" 'mkdir -p /run/background' || fail "$name does not answer"; done
    bench_serve_end
    in_guest_bg "$bench_to" serve 'echo $$ >/run/background/serve.pid; exec xenvelope-lab serve --port 7000'
    sleep 1
    round=1
    while [ $round -le "$bench_rounds" ]; do
        # Another one begins in each round.
        # shellcheck disable=SC2086
        set -- $bench_paths
        number=1
        while [ $number -lt $round ]; do
            first=$1
            shift
            set -- "$@" "$first"
            number=$((number + 1))
        done
        for path; do bench_turn; done
        round=$((round + 1))
    done
    bench_serve_end
    [ $bench_failed -eq 0 ] || fail "$bench_failed measurements came to nothing"
}

# bench_serve_end: ends the server, also one of a run that was broken off.
bench_serve_end() {
    in_guest "$bench_to" 'pid=$(cat /run/background/serve.pid) && [ "$(cat /proc/$pid/comm)" = xenvelope-lab ] && kill $pid' >/dev/null 2>&1 || :
}

# bench_turn: all measurements of $path in $round. The route's status is 1 if it cannot be had.
bench_turn() {
    step "round $round: $path"
    bench_route || {
        bench_bad route "$bench_why"
        return 0
    }
    [ "$round" -gt 1 ] || bench_idle
    bench_tcp
    bench_program udp "xenvelope-lab udp-flood $bench_address:7000 --size 64 --seconds 5"
    bench_program rtt "xenvelope-lab rtt $bench_address:7000 --count 500"
}

# bench_line WHAT FIELDS: a result.
bench_line() {
    printf '{"what":"%s","round":%d,"path":"%s",%s}\n' "$1" "$round" "$path" "$2" >>"$bench_results"
    echo "$1: $2"
}

# bench_bad WHAT WHY
bench_bad() {
    bench_failed=$((bench_failed + 1))
    bench_line "$1" "\"error\":\"$(printf '%s' "$2" | tr '\001-\037"\\' ' ' | cut -c 1-200)\""
}

# --- before the first round ------------------------------------------------------------------

# bench_find: the interfaces and addresses, in files; both interfaces must have the same offloads.
bench_find() {
    local name interface stock
    for name in $bench_from $bench_to; do
        stock=$(in_guest "$name" 'cd /sys/bus/xen/devices/vif-0/net/* && echo ${PWD##*/}' | tail -n 1)
        [ -n "$stock" ] || fail "$name: netfront has no vif 0"
        in_guest "$name" "cat $agent_status" >$bench_folder/status || fail "$name: the agent does not run"
        interface=$(field interface <$bench_folder/status)
        [ -n "$interface" ] || fail "$name: the agent does not run"
        echo "$stock" >$bench_folder/$name.stock
        for interface in "$stock" "$interface"; do
            in_guest "$name" "cat /sys/class/net/$interface/mtu; ethtool -k $interface" >$bench_folder/ethtool ||
                fail "$name: ethtool is needed there"
            # The MTU, and what there is of these.
            grep -E '^([0-9]+$|(tx-checksumming|scatter-gather|tcp-segmentation-offload|generic-segmentation-offload):)' \
                <$bench_folder/ethtool | sed 's/ *\[.*//' >$bench_folder/$name.offloads.$interface
            [ -s $bench_folder/$name.offloads.$interface ] || fail "$name: ethtool says nothing of $interface"
            bench_address_of "$name" "$interface" >$bench_folder/$name.address.$interface
            [ -s $bench_folder/$name.address.$interface ] || fail "$name: $interface has no IPv4 address"
        done
        cmp -s $bench_folder/$name.offloads.$stock $bench_folder/$name.offloads.$interface ||
            fail "$name: $stock and $interface differ:" $(cat $bench_folder/$name.offloads.$stock $bench_folder/$name.offloads.$interface)
        bench_stock_address=$(cat $bench_folder/$name.address.$stock)
        bench_our_address=$(cat $bench_folder/$name.address.$interface)
    done
    # The last one was the receiver: its are those that are sent to.
    echo "offloads of both interfaces:" $(cat $bench_folder/$name.offloads.$stock)
    echo "$name: stock $bench_stock_address, ours $bench_our_address"
}

bench_address_of() {
    in_guest "$1" "ip -4 -o addr show dev $2" | sed -n 's/.* inet \([0-9.]*\).*/\1/p' | head -n 1
}

# bench_setting: what the table's heading is made of.
bench_setting() {
    local list= word
    for word in $bench_paths; do list="$list${list:+,}\"$word\""; done
    printf '{"what":"setting","emulated":%s,"host":"%s",%s"xen":"%s","kernel":"%s","rounds":%d,"bytes":%d,"paths":[%s]}\n' \
        "$bench_emulated" "$bench_host" "${bench_qemu:+\"qemu\":\"$bench_qemu\",}" \
        "$(xl info | sed -n 's/^xen_version *: //p')" "$(uname -r)" "$bench_rounds" "$bench_bytes" "$list"
}

# --- the way ---------------------------------------------------------------------------------

# bench_route: from now on it is $path's: bench_address, and the counter that shows it. Status 1,
# and bench_why, if what is sent does not go that way.
bench_route() {
    local tries=0 route=
    case $path in
    stock) bench_address=$bench_stock_address bench_way= ;;
    switch) route=switch bench_way=enveloped-driver-domain ;;
    direct) route=direct bench_way=enveloped-direct ;;
    vf) route=nic-envelope bench_way=enveloped-vf ;;
    *) fail "there is no path $path" ;;
    esac
    if [ -n "$route" ]; then
        bench_address=$bench_our_address
        sed "s/^default-route-between-guests.*/default-route-between-guests = \"$route\"/" $bench_backend_config >$bench_folder/backend.toml
        # Not moved over it: it may be a link.
        cat $bench_folder/backend.toml >$bench_backend_config
        kill -HUP "$(cat $bench_lock)" || fail 'the backend is gone'
        sleep 2
    fi
    while :; do
        bench_look before || return 1
        if ! in_guest "$bench_from" "ping -c 3 -W 3 $bench_address" >$bench_folder/ping; then
            bench_why="$(tail -n 2 $bench_folder/ping)"
        elif bench_look after && bench_went before after 3 0; then
            break
        fi
        tries=$((tries + 1))
        [ $tries -lt 8 ] || return 1
    done
}

# bench_look LABEL: what both guests have sent so far, by the agent's counters, which it writes
# once a second, and the stock interface's.
bench_look() {
    local name pause=1.5
    for name in $bench_from $bench_to; do
        in_guest "$name" "sleep $pause; cat $agent_status; echo; cat /sys/class/net/$(cat $bench_folder/$name.stock)/statistics/tx_bytes" \
            >$bench_folder/$name.$1 || {
            bench_why="$name does not answer"
            return 1
        }
        pause=0
    done
}

# bench_went BEFORE AFTER FRAMES BYTES [only]: whether, between two looks, the sender sent at least
# so many frames and bytes the path's way, and the receiver any. With `only`: next to nothing
# went another way; ARP does.
bench_went() {
    local name frames=$3 bytes=$4
    for name in $bench_from $bench_to; do
        bench_why=$(awk -v name="$name" -v way="$bench_way" -v frames="$frames" -v bytes="$bytes" -v only="${5:-}" '
            FNR == 1 { sign = ++file == 1 ? -1 : 1 }
            /"sent-by"/ {
                if (match($0, /"sent-bytes":[0-9]+/)) ours += sign * substr($0, RSTART + 13, RLENGTH - 13)
                sub(/.*"sent-by":[{]/, "")
                sub(/[}].*/, "")
                gsub(/"/, "")
                count = split($0, pairs, ",")
                for (at = 1; at <= count; at++) {
                    split(pairs[at], pair, ":")
                    # An envelope counts by the frames in it.
                    if (pair[1] !~ /^envelopes-/) { by[pair[1]] += sign * pair[2]; all += sign * pair[2] }
                }
            }
            /^[0-9]+$/ { stock += sign * $0 }
            END {
                for (key in by) if (by[key]) ways = ways " " key " " by[key]
                seen = sprintf("%s sent %.0f bytes by the stock interface, %.0f by ours:%s", name, stock, ours, ways)
                if (file != 2 || !("netif-frames" in by)) { print "no counters of " name; exit }
                if (way == "") {
                    # The shortest frame of Ethernet but for its padding has an IP and a UDP header.
                    if (stock < bytes || stock < 42 * frames || (only && all > 20 + frames / 100)) print seen
                } else {
                    if (by[way] < frames || ours < bytes) print seen
                    else if (only && (all - by[way] > 20 + all / 100 || (bytes && stock > bytes / 20))) print seen
                }
            }' $bench_folder/$name.$1 $bench_folder/$name.$2)
        [ -z "$bench_why" ] || return 1
        frames=1 bytes=0
    done
}

# --- what is measured ------------------------------------------------------------------------

# Processor seconds of dom0, the receiver and the sender so far, and the time.
bench_seconds() {
    xl list | awk -v to="$bench_to" -v from="$bench_from" '
        $1 == "Domain-0" { a = $NF }
        $1 == to { b = $NF }
        $1 == from { c = $NF }
        END { getline <"/proc/uptime"; print a, b, c, $1 }'
}

# bench_used BEFORE AFTER: as fields of a result.
bench_used() {
    echo "$1 $2" | awk 'NF == 8 { printf "\"window\":%.1f,\"cpu\":{\"dom0\":%.1f,\"receiver\":%.1f,\"sender\":%.1f}", $8 - $4, $5 - $1, $6 - $2, $7 - $3 }'
}

bench_idle() {
    local before used
    before=$(bench_seconds)
    sleep $bench_idle_seconds
    used=$(bench_used "$before" "$(bench_seconds)")
    [ -z "$used" ] || bench_line idle "$used"
}

bench_tcp() {
    local before used
    # What the stack remembers of an address is of the path that was measured before.
    in_guest "$bench_from" 'ip tcp_metrics flush' >/dev/null 2>&1 || :
    in_guest "$bench_to" 'ip tcp_metrics flush' >/dev/null 2>&1 || :
    bench_look before || {
        bench_bad tcp "$bench_why"
        return 0
    }
    in_guest_bg "$bench_from" tcp "sleep 3; xenvelope-lab send $bench_address:7000 --bytes $bench_bytes --unchecked --stall 60" || {
        bench_bad tcp "$bench_from does not answer"
        return 0
    }
    before=$(bench_seconds)
    # Not less than 8 Mbit/s.
    in_guest_wait "$bench_from" tcp $((60 + bench_bytes / 1000000)) >$bench_folder/tcp 2>&1 || {
        bench_bad tcp "$(tail -n 1 $bench_folder/tcp)"
        return 0
    }
    used=$(bench_used "$before" "$(bench_seconds)")
    # A frame has 64 KiB at most.
    bench_result tcp $((bench_bytes / 65536)) "$bench_bytes" "$used"
}

# bench_program WHAT COMMAND
bench_program() {
    bench_look before || {
        bench_bad "$1" "$bench_why"
        return 0
    }
    in_guest "$bench_from" "$2" 60 >$bench_folder/$1 2>&1 || {
        bench_bad "$1" "$(tail -n 1 $bench_folder/$1)"
        return 0
    }
    bench_result "$1" 100 0
}

# bench_result WHAT FRAMES BYTES [FIELDS]: it counts if it went the right way.
bench_result() {
    local result receiver=
    result=$(tr -d '\r' <$bench_folder/$1 | grep '^{.*}$' | tail -n 1)
    if [ -z "$result" ]; then
        bench_bad "$1" "no result: $(tail -n 1 $bench_folder/$1)"
    elif [ "$1" = tcp ] && [ -z "$4" ]; then
        bench_bad "$1" 'xl list names not all domains'
    elif ! bench_look after || ! bench_went before after "$2" "$3" only; then
        bench_bad "$1" "not by the path that is measured: $bench_why"
    else
        bench_line "$1" "\"result\":$result${4:+,$4}"
    fi
}
