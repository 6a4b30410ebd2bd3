# What scenarios say and check.

fail() {
    echo "why: $*"
    exit 1
}

# step TEXT: shown in the log with the time since dom0's boot.
step() { printf '%s -- %s\n' "$(cut -d' ' -f1 /proc/uptime)" "$*"; }

# await SECONDS COMMAND: until it succeeds. Not while something is measured: each look starts
# processes. For a file: `xenvelope-lab await-file`.
await() {
    local now rest end pause=0.2
    read -r now rest </proc/uptime
    end=$((${now%.*} + $1))
    until eval "$2"; do
        read -r now rest </proc/uptime
        [ "${now%.*}" -lt "$end" ] || return 1
        sleep $pause
        pause=0.5
    done
}

# expect WHAT VALUE TEST NUMBER: `expect "queues" 2 -ge 2`
expect() {
    echo "$1: $2 ($3 $4)"
    [ -n "$2" ] && [ "$2" "$3" "$4" ] || fail "$1: ${2:-nothing}, not $3 $4"
}

# at_most WHAT PART WHOLE PERCENT
at_most() {
    awk -v what="$1" -v part="$2" -v whole="$3" -v limit="$4" 'BEGIN {
        printf "%s: %d of %d, %.2f %% (at most %s %%)\n", what, part, whole, 100 * part / whole, limit
        exit !(100 * part / whole <= limit) }' || fail "$1: $2 of $3 is more than $4 %"
}

# no_grants_to SURVIVOR DOMID: within 5 s no grant entry of the survivor names that domain.
no_grants_to() {
    await 5 "xenvelope-lab grant-entries $(guest_domid "$1") --naming $2 >/run/grants" ||
        fail "$1 still grants to domain $2: $(cat /run/grants)"
    cat /run/grants
}

# field NAME: that field of the JSON object on standard input.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" | tail -n 1; }

# less_or_equal A B: numbers, perhaps with fractions.
less_or_equal() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 <= b + 0) }'; }

# keep_logs FOLDER: all that may tell why a scenario failed.
keep_logs() {
    cp /var/log/xen/console/* "$1/" 2>/dev/null
    cp /var/log/*.log "$1/" 2>/dev/null
    dmesg >"$1/dom0-kernel.log"
    xl list >"$1/xl-list.log"
    xl dmesg | tail -n 100 >"$1/xen.log"
    xenstore-ls -fp >"$1/xenstore.log"
    local name
    xl list | awk 'NR > 1 && $1 != "Domain-0" { print $1 }' | while read -r name; do
        in_guest "$name" 'dmesg | tail -n 60; ip addr; ip -s link; tail -n 200 /run/background/*; tail -n 400 /var/log/*.log; cat /proc/interrupts' 8 >"$1/in-$name.log" 2>&1
    done
    :
}

# clean_up: nothing of a scenario is left for the next one.
clean_up() {
    local process
    set +e
    destroy_guests
    # What the job started in the background; this boot has no other processes by these names.
    for process in xenvelope-backend xenvelope-lab; do
        pidof $process >/dev/null && kill -KILL $(pidof $process)
    done
    [ ! -e /sys/bus/xen-backend/drivers_autoprobe ] || echo 1 >/sys/bus/xen-backend/drivers_autoprobe
    ip netns del outside 2>/dev/null
    local link
    for link in br0 br1 to-outside xenv-up; do ip link del $link 2>/dev/null; done
    rm -rf /var/log/*.log /var/log/xen/console/* /etc/xenvelope /run/xenvelope /run/guests
    :
}
