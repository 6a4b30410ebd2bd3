# What scenarios say and check.

fail() {
    echo "why: $*"
    exit 1
}

# step TEXT: shown in the log with the time since dom0's boot.
step() { printf '%s -- %s\n' "$(cut -d' ' -f1 /proc/uptime)" "$*"; }

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
    destroy_guests
    ip link del br0 2>/dev/null
    rm -f /var/log/*.log /var/log/xen/console/*
    :
}
