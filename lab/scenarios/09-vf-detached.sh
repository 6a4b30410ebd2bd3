# The sender's VF is detached in mid transfer and attached again: TCP survives on the channel and returns to the VF.
# needs=sriov
# limit=300
card_up 2
backend_config 'default-route-between-guests = "auto"' '[card]' "pf = \"$pf\"" \
    '[[guest]]' "mac = \"$(guest_mac 1)\"" 'vf = 0' \
    '[[guest]]' "mac = \"$(guest_mac 2)\"" 'vf = 1'
backend_start
agents_up "1 pci=$(card_vf 0)" "2 pci=$(card_vf 1)"
serve a1
transfer a2 10.9.0.1 1000000
vf=$(card_vf 1)

vf_sends() { # BYTES-BEFORE: more went by the VF since
    local interface
    interface=$(vf_interface a2)
    [ -n "$interface" ] && [ "$(statistic a2 "$interface" tx_packets)" -gt "$1" ]
}
before=$(statistic a2 "$(vf_interface a2)" tx_packets)
transfer_start long a2 10.9.0.1 400000000
vf_sends $((before + 50)) || fail 'the transfer does not use the VF'

step 'detached'
transfer_runs long a2
xl pci-detach a2 "$vf"
await 20 '[ -z "$(vf_interface a2)" ]' || fail 'the VF is still there'
sleep 3
transfer_runs long a2
forwarded=$(backend_counter envelopes-forwarded)
sleep 1
expect 'envelopes by the channel' $(($(backend_counter envelopes-forwarded) - forwarded)) -gt 0

step 'attached again'
ip link set $pf vf 1 mac "$(guest_mac 2)"
xl pci-attach a2 "$vf"
await 30 '[ -n "$(vf_interface a2)" ]' || fail 'the VF does not come back'
await 20 'vf_sends 50' || fail 'nothing goes by the VF again'
transfer_runs long a2
transfer_limit=200
transfer_end long a2

step 'sent = delivered + dropped'
sleep 2
# What was in the card when it went: known from what both ends say of that path.
of_vf() { # sent-by or received-by: frames by the VF, of both guests
    local sum=0 guest counter
    for guest in a1 a2; do
        for counter in enveloped-vf vf-frames; do sum=$((sum + $(agent_counter $guest "$1/$counter"))); done
    done
    echo $sum
}
lost=$(($(of_vf sent-by) - $(of_vf received-by)))
echo "lost with the VF: $lost"
[ $lost -ge 0 ] && [ $lost -le 1000 ] || fail "by the VF $lost frames more were sent than came"
sent=$(($(agent_counter a1 sent-frames) + $(agent_counter a2 sent-frames) + $(backend_counter flood-extra) + $(backend_counter uplink-in)))
delivered=$(($(agent_counter a1 delivered-frames) + $(agent_counter a2 delivered-frames) + $(backend_counter uplink-out)))
dropped=$(($(agent_counter a1 dropped) + $(agent_counter a2 dropped) + $(backend_counter dropped)))
echo "sent $sent = delivered $delivered + dropped $dropped + lost $lost"
[ $sent -eq $((delivered + dropped + lost)) ] || fail "sent $sent, delivered $delivered, dropped $dropped, lost $lost"
backend_alive
