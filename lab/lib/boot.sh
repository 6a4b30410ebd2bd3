# Boots Xen in QEMU and gives dom0 jobs. Sourced by lab/run.
#
# KVM is never used: where it exists at all it often cannot nest, and the lab is to behave the same
# everywhere. lab/README.md says what was measured for each option here.

# boot KIND CONSOLE [DOM0 ARGUMENTS]: starts QEMU in the background (CONSOLE = a file) or, with
# `stdio`, in the foreground.
boot() {
    local kind=$1 console=$2 extra=${3:-}
    local xen=(dom0_mem=1280M,max:1280M dom0_max_vcpus=1 dom0_vcpus_pin sched=credit
        console=com1 com1=115200 loglvl=warning guest_loglvl=warning noreboot)
    local devices=(-virtfs "local,path=$share,mount_tag=lab,security_model=none,multidevs=remap")
    xen+=(spec-ctrl=no xpti=no)
    if [[ $kind = sriov ]]; then
        # With interrupt remapping, MSIs get lost here; the remapping of DMA stays on.
        xen+=(iommu=1,no-intremap x2apic=0)
        devices+=(-device intel-iommu,intremap=off -device pcie-root-port,id=port0
            -netdev user,id=outside,restrict=on
            -device igb,bus=port0,netdev=outside,mac=52:54:00:12:34:56)
    fi
    # With memory above 4 GiB the firmware puts VFs high up, where a PV guest does not reach them.
    local command=(qemu-system-x86_64 -machine q35 -accel tcg,thread=multi,tb-size=512 -cpu "${LAB_CPU:-max,-erms,-fsrm}"
        -smp "${LAB_SMP:-4}" -m 2800 -display none -no-reboot -nodefaults -monitor "unix:$work/monitor,server=on,wait=off"
        -kernel "$work/image/xen" -append "${xen[*]} ${LAB_XEN:-}"
        -initrd "$work/kernel/vmlinux console=hvc0 quiet mitigations=off lab_kind=$kind ${LAB_DOM0:-} $extra,$work/image/dom0.cpio"
        "${devices[@]}")
    if [[ $console = stdio ]]; then
        "${command[@]}" -serial mon:stdio
    else
        "${command[@]}" -serial "file:$console" </dev/null >"$console.qemu" 2>&1 &
        qemu_pid=$!
    fi
}

# prepare_share: what dom0 sees of this tree.
prepare_share() {
    rm -rf "$share" && mkdir -p "$share"/{jobs,bin,lib,logs}
    refresh_share
}

refresh_share() {
    local program library
    mkdir -p "$share"/{dom0,scenarios,bin,lib,etc,docs}
    cp "$lab"/dom0/* "$share/dom0/"
    cp "$lab"/scenarios/* "$share/scenarios/"
    cp "$top"/docs/*.md "$share/docs/"
    for program in xenvelope-lab xenvelope-backend xenvelope-guest; do
        [[ -e $binaries/$program ]] || continue
        cp "$binaries/$program" "$share/bin/$program.new" && mv "$share/bin/$program.new" "$share/bin/$program"
        for library in $(ldd "$binaries/$program" 2>/dev/null | grep -o '/[^ ]*'); do
            cp -u "$library" "$share/lib/$(basename "$library")"
        done
    done
    cp -r "$top"/{backend,frontend}/etc/. "$share/etc/" 2>/dev/null || true
}

# await_boot SECONDS: until dom0 takes jobs.
await_boot() {
    local limit=$((SECONDS + $1))
    until [[ -e $share/ready ]]; do
        kill -0 "$qemu_pid" 2>/dev/null || return 1
        [[ $SECONDS -lt $limit ]] || return 1
        sleep 0.3
    done
}

# run_job ID LIMIT FILE: dom0 runs FILE; its status is returned, 125 if dom0 did not answer.
# dom0 itself ends the job at LIMIT; this waits a while longer for it to clean up.
run_job() {
    local id=$1 limit=$2 end
    printf '%s\n' "$limit" >"$share/jobs/$id.limit"
    cp "$3" "$share/jobs/$id.new" && mv "$share/jobs/$id.new" "$share/jobs/$id"
    end=$((SECONDS + limit + 60))
    until [[ -e $share/jobs/$id.status ]]; do
        kill -0 "$qemu_pid" 2>/dev/null || return 125
        [[ $SECONDS -lt $end ]] || return 125
        sleep 0.2
    done
    return "$(<"$share/jobs/$id.status")"
}

power_off() {
    local end=$((SECONDS + 20))
    touch "$share/jobs/off"
    while kill -0 "$qemu_pid" 2>/dev/null; do
        [[ $SECONDS -lt $end ]] || { kill -KILL "$qemu_pid" 2>/dev/null || true; break; }
        sleep 0.2
    done
    wait "$qemu_pid" 2>/dev/null || true
}
