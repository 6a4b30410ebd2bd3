# Envelopes through the card's own switch, between two guests with VFs; a third one's forgeries come to nothing.
# needs=sriov
# limit=300
payload=100000000
card_up 3
backend_config 'default-route-between-guests = "nic-envelope"' '[card]' "pf = \"$pf\"" \
    '[[guest]]' "mac = \"$(guest_mac 1)\"" 'vf = 0' \
    '[[guest]]' "mac = \"$(guest_mac 2)\"" 'vf = 1' \
    '[[guest]]' "mac = \"$(guest_mac 3)\"" 'vf = 2'
backend_start
agents_up "1 pci=$(card_vf 0)" "2 pci=$(card_vf 1)"
serve a1
ping_ok a2 10.9.0.1
transfer a2 10.9.0.1 1000000
vf1=$(vf_interface a1)
vf2=$(vf_interface a2)

vf_bytes() { echo $(($(statistic a1 "$vf1" tx_bytes) + $(statistic a2 "$vf2" tx_bytes))); }
for setting in 'off 12' 'on 3'; do
    tso=${setting% *}
    step "TSO $tso"
    for guest in a1 a2; do in_guest $guest "ethtool -K xenv0 tso $tso"; done
    before=$(vf_bytes)
    sent=$(agent_counter a2 sent-by/envelopes-vf)
    transfer a2 10.9.0.1 $payload
    at_most "bytes by both VFs, TSO $tso" $(($(vf_bytes) - before)) $payload "${setting#* }"
    expect 'envelopes by the VF' $(($(agent_counter a2 sent-by/envelopes-vf) - sent)) -gt 100
done

step 'a third guest forges the address of the sender'
# A guest that keeps its VF for itself: no agent.
guest_create f3 number=3 vif=none pci="$(card_vf 2)"
guest_up f3
# Datagrams to a port where nobody listens: the stack of the attacked guest counts what it gets.
no_ports() { in_guest "$1" "awk '/^Udp:/ { n = \$3 } END { print n }' /proc/net/snmp"; }
forge() { # NAME USED FOR ATTACKED: both by number
    in_guest f3 "xenvelope-lab forge-envelopes --interface $forger --seconds 5 \
--from $(guest_mac "$1") --from-ip $(guest_ip "$1") --to $(guest_mac "$2") --to-ip $(guest_ip "$2")" 30 ||
        fail 'the forger does not run'
}
forger=$(vf_interface f3)
in_guest f3 "ip link set $forger up; sleep 2"
reached=$(no_ports a1)
refused=$(agent_counter a1 wrong-tag)
bad_dones=$(agent_counter a2 bad-dones)
transfer_start honest a2 10.9.0.1 $payload
forge 2 1
forge 1 2
transfer_end honest a2
# The card passes them on, or this would show nothing.
expect 'forged frames refused for their tag by the receiver' $(($(agent_counter a1 wrong-tag) - refused)) -gt 100
expect 'forged dones refused by the sender' $(($(agent_counter a2 bad-dones) - bad_dones)) -gt 100
expect 'forged frames delivered' $(($(no_ports a1) - reached)) -eq 0
expect 'peers closed' "$(agent_counter a1 peer-closed)" -eq 0
transfer a2 10.9.0.1 1000000
backend_alive
