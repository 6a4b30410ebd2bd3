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
delivered=$(agent_counter a1 delivered-frames)
refused=$(agent_counter a1 wrong-tag)
transfer_start honest a2 10.9.0.1 100000000
in_guest f3 "ip link set $(vf_interface f3) up; sleep 1
xenvelope-lab forge-envelopes --interface $(vf_interface f3) --from $(guest_mac 2) --to $(guest_mac 1) --seconds 5" 30 ||
    fail 'the forger does not run'
transfer_end honest a2
echo "delivered $(($(agent_counter a1 delivered-frames) - delivered)), refused for their tag $(($(agent_counter a1 wrong-tag) - refused))"
expect 'forgeries that were seen' $(($(agent_counter a1 dropped) - refused)) -gt 0
backend_alive
