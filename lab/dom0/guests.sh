# Guests: made when a scenario needs them, destroyed after it.

# guest_create NAME [KEY=VALUE...]: a PV guest. Keys:
#   number=N     which guest it is: its processor (N mod those there are), its address 10.9.0.N
#   role=stock   Linux' own netfront (the default), or `agent`: no netfront is loaded; or `both`:
#                netfront has vif 0 and no other
#   vcpus=1 memory=256 cpus=...
#   vif=...      as in xl's configuration; `vif=stock` and `vif=ours` for the usual ones, `vif=both`
#                for a stock one, which is vif 0, and one of ours
#   pci=BDF      a VF
#   netfront=... options of the module xen-netfront
#   extra=FOLDER what is in it is in the guest's image, too
# It does not wait: see guest_up.
guest_create() {
    local name=$1 number=1 role=stock vcpus=1 memory=256 vif=stock pci= netfront= cpus= extra= mac files
    shift
    local "$@"
    mac=$(guest_mac "$number")
    case $vif in
    stock) vif="'mac=$mac,bridge=br0,script=vif-bridge'" ;;
    ours) vif="'mac=$mac,script=vif-xenvelope'" ;;
    both) vif="'mac=$(guest_stock_mac "$number"),bridge=br0,script=vif-bridge', 'mac=$mac,script=vif-xenvelope'" ;;
    none) vif= ;;
    *) vif="'mac=$mac,$vif'" ;;
    esac
    # A processor for each guest; the first is dom0's.
    [ -n "$cpus" ] || cpus=$(((number - 1) % ($(host_processors) - 1) + 1))
    files=/run/guests/$name
    rm -rf "$files"
    mkdir -p "$files/root/etc/xenvelope" "$files/root/usr/local/bin" "$files/root/lib/x86_64-linux-gnu"
    cat >"$files/root/etc/lab" <<X
name=$name
number=$number
role=$role
pci=${pci:+yes}
netfront_options="$netfront"
X
    cp /usr/local/bin/xenvelope-lab "$files/root/usr/local/bin/"
    cp /lab/lib/* "$files/root/lib/x86_64-linux-gnu/"
    if [ "$role" != stock ]; then
        cp /usr/local/bin/xenvelope-guest "$files/root/usr/local/bin/"
        agent_config "$number" "$mac" "$pci" >"$files/root/etc/xenvelope/guest.toml"
    fi
    [ -z "$extra" ] || cp -r "$extra/." "$files/root/"
    # The kernel unpacks several archives, one after the other.
    (cd "$files/root" && find . | cpio -o -H newc 2>/dev/null) | cat /root/guest/guest.cpio - >"$files/initramfs"
    # What traps into Xen is dear under emulation, and where Xen calls the clock unreliable a PV
    # guest's rdtsc does. Linux looks at the clock all the time, whoever's driver runs.
    cat >"$files/config" <<X
name = "$name"
kernel = "/root/guest/vmlinux"
ramdisk = "$files/initramfs"
memory = $memory
vcpus = $vcpus
cpus = "$cpus"
vif = [ $vif ]
${pci:+pci = [ '$pci' ]}
tsc_mode = "native"
extra = "console=hvc0 quiet mitigations=off ${pci:+swiotlb=32768} ${LAB_GUEST:-}"
on_reboot = "restart"
on_crash = "destroy"
${LAB_GUEST_CONFIG:-}
X
    rm -f "/var/log/xen/console/guest-$name.log"
    xl create -q "$files/config" || fail "xl create $name"
    # The same name may have been another domain before.
    xl domid "$name" >"$files/domid"
    rm -f "$files/initramfs"
}

# guest_up NAME...: until their shells answer.
guest_up() {
    local name
    for name; do in_guest "$name" true 60 || fail "$name did not come up: $(tail -n 5 "$(guest_log "$name")")"; done
}

# in_guest NAME COMMAND [LIMIT]: prints what it prints, returns its status; 125: no answer.
in_guest() {
    xenvelope-lab in-guest --tty "$(guest_tty "$1")" --log "$(guest_log "$1")" --limit "${3:-30}" "$2"
}

# in_guest_bg NAME LABEL COMMAND: starts it there; in_guest_wait fetches its output and status.
in_guest_bg() {
    in_guest "$1" "rm -f /run/background/$2.status; (/bin/sh -c $(quote "$3"); echo \$? >/run/background/$2.status) >/run/background/$2 2>&1 </dev/null & :"
}

# in_guest_wait NAME LABEL [LIMIT]. It takes next to no processor time, there and here.
in_guest_wait() {
    in_guest "$1" "xenvelope-lab await-file --filled /run/background/$2.status --limit ${3:-60}
cat /run/background/$2
exit \$(cat /run/background/$2.status)" "${3:-60}"
}

guest_destroy() {
    xl destroy "$1"
}

quote() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}

guest_domid() { cat "/run/guests/$1/domid"; }
guest_tty() { xenstore-read "/local/domain/$(guest_domid "$1")/console/tty"; }
guest_log() { printf '/var/log/xen/console/guest-%s.log' "$1"; }
guest_mac() { printf '00:16:3e:00:00:%02x' "$1"; }
guest_stock_mac() { printf '00:16:3e:00:01:%02x' "$1"; }
guest_ip() { printf '10.9.0.%d' "$1"; }
host_processors() { xl info | sed -n 's/^nr_cpus *: //p'; }

# CPU seconds that a domain has used.
domain_seconds() { xl list "$1" | awk 'NR == 2 { print $NF }'; }

destroy_guests() {
    local name
    xl list | awk 'NR > 1 && $1 != "Domain-0" { print $1 }' | while read -r name; do xl destroy "$name"; done
}
