# Two guests with our frontend and a channel between them: nothing goes through dom0, which stays idle.
# needs=plain
payload=100000000
backend_config 'default-route-between-guests = "direct"'
backend_start
agents_up 1 2
serve a1
ping_ok a2 10.9.0.1
transfer a2 10.9.0.1 1000000

# No frame is longer than 64 KiB, no envelope than a page; the card's PF counts bytes.
dom0_bytes() {
    local frames envelopes pf_bytes=0
    frames=$(($(backend_counter netif-in) + $(backend_counter netif-out)))
    envelopes=$(($(backend_counter envelopes-forwarded) + $(backend_counter envelopes-taken)))
    if [ -e /sys/class/net/$pf ]; then
        pf_bytes=$(cat /sys/class/net/$pf/statistics/tx_bytes /sys/class/net/$pf/statistics/rx_bytes | awk '{ n += $1 } END { print n }')
    fi
    echo $((frames * 65549 + envelopes * 4096 + pf_bytes))
}

step 'how busy dom0 is when nothing is sent'
used=$(domain_seconds 0)
began=$(cut -d' ' -f1 /proc/uptime)
in_guest a2 'sleep 12'
idle=$(awk "BEGIN { print ($(domain_seconds 0) - $used) / ($(cut -d' ' -f1 /proc/uptime) - $began) }")

step 'and when a2 sends to a1'
before=$(dom0_bytes)
used=$(domain_seconds 0)
began=$(cut -d' ' -f1 /proc/uptime)
transfer a2 10.9.0.1 $payload
busy=$(awk "BEGIN { print ($(domain_seconds 0) - $used) / ($(cut -d' ' -f1 /proc/uptime) - $began) }")
at_most 'bytes through dom0, at the very most, of the payload' $(($(dom0_bytes) - before)) $payload 1
echo "dom0: $idle of a processor idle, $busy in the transfer"
less_or_equal "$busy" "$(awk "BEGIN { print $idle + 0.05 }")" || fail "dom0 uses $busy of a processor, $idle when idle"
expect 'envelopes by the channel' "$(agent_counter a2 sent-by/envelopes-direct)" -gt 100
transfer a2 10.9.0.1 20000000 --reverse
backend_alive
