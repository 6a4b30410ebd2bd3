# Which scenarios there are, and running them. Sourced by lab/run.

# What fits into CI's time.
ci_scenarios=(01 04 05 07)
boots=3

scenario_names() { (cd "$lab/scenarios" && printf '%s\n' *.sh | sed 's/\.sh$//'); }
scenario_needs() { sed -n 's/^# needs=//p' "$lab/scenarios/$1.sh"; }
scenario_limit() { sed -n 's/^# limit=//p' "$lab/scenarios/$1.sh" | grep . || echo 180; }
# `4 direct` of `04-direct`
scenario_title() { local number=${1%%-*}; printf '%d %s' "$((10#$number))" "${1#*-}"; }

list_scenarios() {
    local name
    for name in $(scenario_names); do
        printf '%-24s %-6s %s\n' "$name" "$(scenario_needs "$name")" "$(sed -n '1s/^# //p' "$lab/scenarios/$name.sh")"
    done
    printf 'groups: plain, sriov, ci (%s)\n' "${ci_scenarios[*]}"
}

# resolve NAME: the scenarios that a name or a group stands for, one a line.
resolve() {
    local name found=1
    for name in $(scenario_names); do
        case $1 in
        "$name" | "${name#*-}" | "${name%%-*}" | "$((10#${name%%-*}))") ;;
        plain | sriov) [[ $(scenario_needs "$name") = "$1" ]] || continue ;;
        ci) [[ " ${ci_scenarios[*]} " = *" ${name%%-*} "* ]] || continue ;;
        *) continue ;;
        esac
        printf '%s\n' "$name"
        found=0
    done
    return $found
}

scenario_file() {
    local name
    name=$(resolve "$1") && [[ $name != *$'\n'* ]] && printf '%s/scenarios/%s.sh' "$lab" "$name"
}

# run_scenarios [NAME...]
run_scenarios() {
    local names=() name arg kind passed=0 failed=0
    if [[ $# -eq 0 ]]; then
        mapfile -t names < <(scenario_names)
    else
        for arg; do
            resolve "$arg" >/dev/null || { say "no scenario and no group is called $arg; see lab/run --list"; exit 2; }
        done
        mapfile -t names < <(for arg; do resolve "$arg"; done | sort -u)
    fi
    logs=$work/logs/$(date +%Y%m%d-%H%M%S)
    mkdir -p "$logs"
    prepare
    trap 'kill -KILL "${qemu_pid:-}" 2>/dev/null || true' EXIT
    # The boot with the card serves all: one boot is sooner done than two.
    kind=plain
    for name in "${names[@]}"; do
        [[ $(scenario_needs "$name") = plain ]] || kind=sriov
    done
    pending=("${names[@]}")
    # A boot that hangs is ended, and what it had not run is run by the next.
    for ((boot_number = 1; boot_number <= boots && ${#pending[@]} > 0; boot_number++)); do
        run_boot "$kind" "$boot_number"
    done
    for name in "${pending[@]}"; do
        report FAILED "$name" 0 "was not run: no boot of the lab got to it"
    done
    [[ $failed -gt 0 ]] || rm -rf "$logs"
    [[ $failed -eq 0 ]] || say "logs: $logs"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [[ $failed -eq 0 && $passed -eq ${#names[@]} ]]
}

# report ok|FAILED NAME SECONDS [WHY]
report() {
    printf '%s %s (%d s)%s\n' "$1" "$(scenario_title "$2")" "$3" "${4:+: $4}"
    if [[ $1 = ok ]]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# run_boot KIND NUMBER: takes scenarios from `pending` until there are none or dom0 hangs.
run_boot() {
    local kind=$1 name job=0 status began why console=$logs/dom0-$1-$2.log
    prepare_share
    boot "$kind" "$console"
    if ! await_boot 150; then
        say "dom0 did not come up, see $console"
        power_off
        return 0
    fi
    while [[ ${#pending[@]} -gt 0 ]]; do
        name=${pending[0]}
        pending=("${pending[@]:1}")
        job=$((job + 1))
        began=$SECONDS
        status=0
        run_job "$job" "$(scenario_limit "$name")" "$lab/scenarios/$name.sh" || status=$?
        if [[ $status -eq 0 ]]; then
            report ok "$name" $((SECONDS - began))
            continue
        fi
        mkdir -p "$logs/$name"
        cp -r "$share/logs/$job/." "$logs/$name/" 2>/dev/null || true
        cp "$share/jobs/$job.output" "$logs/$name/steps.log" 2>/dev/null || true
        why=$(sed -n 's/^why: //p' "$share/jobs/$job.output" 2>/dev/null | tail -n 1)
        [[ $status -ne 125 ]] || why="dom0 does not answer any more"
        report FAILED "$name" $((SECONDS - began)) "${why:-status $status after: $(tail -n 1 "$share/jobs/$job.output" 2>/dev/null)}"
        [[ $status -ne 125 ]] || break
    done
    power_off
}
